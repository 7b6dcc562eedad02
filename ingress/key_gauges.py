"""The models' key rings on /metrics: how many keys, and how long they have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import redis.asyncio
from prometheus_client import CollectorRegistry

from shared import metrics
from shared.instruments import gauge
from shared.state.key_ring import DAY_MS, LIVE_STATES, KeyRing
from shared.state.keys import RingKeys


class KeyGauges:
    """models: the names in the settings, a closed set. Pairs stay sealed."""

    def __init__(self, registry: CollectorRegistry, models: Sequence[str]) -> None:
        self._rings = {model: RingKeys(model).ring for model in models}
        self._keys = gauge(metrics.KEYS, registry)
        self._expiry = gauge(metrics.KEY_EXPIRY, registry)

    async def measure(self, client: redis.asyncio.Redis) -> None:
        """Read the rings, in one round trip. Raises: RedisError."""
        if not self._rings:
            return
        async with client.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.mget(list(self._rings.values()))
            (seconds, _), texts = await pipe.execute()
        self._expiry.clear()
        for model, text in zip(self._rings, texts, strict=True):
            self._show(model, KeyRing.from_json(text or ""), seconds * 1000)

    def forget(self) -> None:
        """Show nothing rather than something old."""
        self._keys.clear()
        self._expiry.clear()

    def _show(self, model: str, ring: KeyRing, now_ms: int) -> None:
        ends: dict[str, list[int]] = defaultdict(list)
        for entry in ring.live:
            ends[entry.state].append(entry.ends_ms)
        for state in LIVE_STATES:
            self._keys.labels(model, state).set(len(ends[state]))
            if ends[state]:
                self._expiry.labels(model, state).set((min(ends[state]) - now_ms) / DAY_MS)
