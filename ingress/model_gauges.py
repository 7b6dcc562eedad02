"""The models' breakers on /metrics."""

from __future__ import annotations

from collections.abc import Sequence

import redis.asyncio
from prometheus_client import CollectorRegistry

from shared import metrics
from shared.instruments import gauge
from shared.state import keys


class BreakerGauges:
    """models: the names in the settings, a closed set."""

    def __init__(self, registry: CollectorRegistry, models: Sequence[str]) -> None:
        self._models = models
        self._open = gauge(metrics.BREAKER_OPEN, registry)

    async def measure(self, client: redis.asyncio.Redis) -> None:
        """See `Gauges`. `open_until` stands there until a call of the model went well."""
        async with client.pipeline(transaction=False) as pipe:
            for model in self._models:
                pipe.hexists(keys.breaker(model), "open_until")
            found = await pipe.execute()
        for model, is_open in zip(self._models, found, strict=True):
            self._open.labels(model).set(int(is_open))

    def forget(self) -> None:
        """See `Gauges`."""
        self._open.clear()
