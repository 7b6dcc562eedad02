"""Which workers live: each tells of itself in Redis every second."""

from __future__ import annotations

import json
from typing import Any

import redis.asyncio

from shared.envelope import QUEUES
from shared.state import keys

WORKER_SEEN_MS = 15_000


async def live_workers(client: redis.asyncio.Redis) -> dict[str, list[str]]:
    """The names of those that were seen of late, by queue. Raises: RedisError."""
    seconds, micros = await client.time()
    now_ms = seconds * 1000 + micros // 1000
    seen: dict[str, list[str]] = {queue: [] for queue in QUEUES}
    for name, text in (await client.hgetall(keys.WORKERS)).items():
        facts: dict[str, Any] = json.loads(text)
        if now_ms - facts["seen_ms"] <= WORKER_SEEN_MS:
            for queue in facts["queues"]:
                seen.setdefault(queue, []).append(name)
    return seen
