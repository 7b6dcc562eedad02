"""How full Redis is, on /metrics: what `memory.py` saw at its last look."""

from __future__ import annotations

from collections.abc import Iterator

import redis.asyncio
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ingress.memory import MemoryWatch
from shared import metrics


class MemoryGauge(Collector):
    """A collector of its own, because a plain gauge without labels can't show nothing."""

    def __init__(self, registry: CollectorRegistry, watch: MemoryWatch) -> None:
        self._watch = watch
        self._ratio: float | None = None
        registry.register(self)

    async def measure(self, _: redis.asyncio.Redis) -> None:
        """See `Gauges`. Asks Redis nothing: the watch looks every second."""
        self._ratio = self._watch.used_ratio

    def forget(self) -> None:
        """See `Gauges`."""
        self._ratio = None

    def collect(self) -> Iterator[GaugeMetricFamily]:
        if self._ratio is not None:
            metric = metrics.REDIS_MEMORY
            yield GaugeMetricFamily(metric.name, metric.help, value=self._ratio)
