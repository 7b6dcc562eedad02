"""GET /metrics: what this process counted, and what stands in Redis at this moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import redis.asyncio
from prometheus_client import CollectorRegistry, generate_latest
from redis.exceptions import RedisError

from ingress.patience import within
from shared import metrics
from shared.instruments import gauge

MEASURE_TIMEOUT_S = 1.5  #: for all of it; Prometheus waits for 10


class Gauges(Protocol):
    """Some facts in Redis, shown as gauges."""

    async def measure(self, client: redis.asyncio.Redis) -> None:
        """Read them anew. Raises: RedisError."""

    def forget(self) -> None:
        """Show nothing rather than something old."""


class Scrape:
    """All that one ingress shows. gauges: measured at each scrape, in this order."""

    def __init__(
        self, client: redis.asyncio.Redis, registry: CollectorRegistry, gauges: Sequence[Gauges]
    ) -> None:
        self._client = client
        self._registry = registry
        self._gauges = gauges
        self._redis_up = gauge(metrics.REDIS_UP, registry)

    async def text(self) -> bytes:
        """Prometheus text. Without Redis, what stands there is missing, the rest is there."""
        try:
            await within(MEASURE_TIMEOUT_S, self._measure())
            self._redis_up.set(1)
        except (RedisError, OSError, TimeoutError):
            self._redis_up.set(0)
            for each in self._gauges:
                each.forget()
        return generate_latest(self._registry)

    async def _measure(self) -> None:
        for each in self._gauges:
            await each.measure(self._client)
