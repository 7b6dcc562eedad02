"""Watches how full Redis is, so that accept refuses while there is still room to drain."""

from __future__ import annotations

import asyncio
import logging

import redis.asyncio
from redis.exceptions import RedisError

from ingress.patience import within

FULL_RATIO = 0.8
INTERVAL_S = 1.0

logger = logging.getLogger(__name__)


class MemoryWatch:
    """`is_full`: more than `FULL_RATIO` of `maxmemory` is in use.

    used_ratio: the share itself, 0 without `maxmemory`; None before the first look.
    """

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self.is_full = False
        self.used_ratio: float | None = None

    async def run(self) -> None:
        """Look every second until cancelled; an outage of Redis leaves the last answer."""
        task = asyncio.current_task()
        while True:
            try:
                await within(INTERVAL_S, self.look())
            except (RedisError, OSError, TimeoutError):
                logger.debug("memory.unknown")
            if task is None or task.cancelling():
                return  # redis-py swallows a cancellation while it connects; a stop must not hang
            await asyncio.sleep(INTERVAL_S)

    async def look(self) -> None:
        """One look."""
        memory = await self._client.info("memory")
        limit = int(memory["maxmemory"])
        self.used_ratio = int(memory["used_memory"]) / limit if limit > 0 else 0.0
        is_full = self.used_ratio >= FULL_RATIO
        if is_full != self.is_full:
            logger.warning("memory.full" if is_full else "memory.has_room")
        self.is_full = is_full
