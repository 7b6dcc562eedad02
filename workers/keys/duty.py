"""What somebody has to look after: keys near their end, keys past their window.

The sweeper's worker calls it, so it runs once in the deployment.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import redis

from shared import audit
from shared.state.key_ring import DAY_MS, Entry, KeyRing
from workers.keys.ring_store import RingStore

INTERVAL_MS = 60_000
WARN_AGAIN_S = 86_400

logger = logging.getLogger(__name__)


class KeyDuty:
    """Warns once a day of each key near its end, and archives what is past its window."""

    def __init__(self, client: redis.Redis, stores: Sequence[RingStore], *, warn_days: int) -> None:
        self._client = client
        self._stores = stores
        self._warn_ms = warn_days * DAY_MS
        self._next_ms = 0

    def tick(self, now_ms: int) -> None:
        """Look at all rings, at most once in `INTERVAL_MS`. now_ms: Redis's time."""
        if now_ms < self._next_ms:
            return
        self._next_ms = now_ms + INTERVAL_MS
        for store in self._stores:
            self._archive_past(store)
            self._warn(store, store.read().ring, now_ms)

    def _archive_past(self, store: RingStore) -> None:
        past: list[Entry] = []

        def step(ring: KeyRing, now_ms: int) -> KeyRing:
            after = ring.without_past(now_ms)
            past[:] = [entry for entry in ring.live if entry.id in after.archived_ids]
            return after

        store.change(step)
        for entry in past:
            model, why = store.keys.model, "its time was over"
            audit.record("key.archived", model=model, key=entry.id, state=entry.state, why=why)

    def _warn(self, store: RingStore, ring: KeyRing, now_ms: int) -> None:
        for entry in ring.live:
            if store.open(entry.sealed) is None:
                self._log_daily(store, entry, "key.unreadable", logging.ERROR, now_ms)
            if entry.state == "replaced" and not entry.is_over(now_ms):
                continue  # its end is wanted; past it, it stays because no other key is active
            if entry.is_over(now_ms):
                self._log_daily(store, entry, "key.expired", logging.ERROR, now_ms)
            elif entry.ends_ms - now_ms <= self._warn_ms:
                self._log_daily(store, entry, "key.expiring", logging.WARNING, now_ms)

    def _log_daily(
        self, store: RingStore, entry: Entry, event: str, level: int, now_ms: int
    ) -> None:
        noted = store.keys.warned(f"{entry.id}:{event.rpartition('.')[2]}")
        if not self._client.set(noted, 1, nx=True, ex=WARN_AGAIN_S):
            return
        metadata = {
            "model": store.keys.model,
            "key": entry.id,
            "state": entry.state,
            "days": round((entry.ends_ms - now_ms) / DAY_MS, 1),
        }
        logger.log(level, event, extra={"metadata": metadata})
