"""The ingress follows the configuration centre: a look each second, off the way of any request."""

from __future__ import annotations

import asyncio

import redis.asyncio
from redis.exceptions import RedisError

from ingress.patience import within
from ingress.redis_client import connect
from shared.config.follow import INTERVAL_S, Follower
from shared.state import keys

FIRST_LOOK_S = 2.0  #: a start waits no longer for Redis


class ConfigCenter:
    """Looks into the file and into Redis and lets the follower judge."""

    def __init__(self, follower: Follower, client: redis.asyncio.Redis) -> None:
        self._follower = follower
        self._client = client

    async def run(self) -> None:
        """Look every second until cancelled."""
        task = asyncio.current_task()
        while True:
            await _look_at_file(self._follower)
            await self.look_at_redis(INTERVAL_S)
            self._follower.tell()
            if self._follower.is_late and not self._follower.waits_for_restart:
                self._follower.complete()  # the door may open
            if task is None or task.cancelling():
                return  # redis-py swallows a cancellation while it connects; a stop must not hang
            await asyncio.sleep(INTERVAL_S)

    async def look_at_redis(self, patience_s: float) -> None:
        """One look, for `patience_s` at most."""
        if not self._follower.reads_redis:
            return
        try:
            values = await within(patience_s, self._client.hgetall(keys.CONFIG))
        except (RedisError, OSError, TimeoutError, ValueError) as error:
            self._follower.miss("redis", error)
        else:
            self._follower.take_hash(values)


async def first_look(follower: Follower) -> None:
    """What the centre says before anything is built.

    The file may say where Redis is, and may need what is there. A start doesn't fail for a Redis
    that is away: no call is let in until it has been read (`door.py`).

    Raises:
        ConfigError: what a place says can't be used, or the file is away.
    """
    await _look_at_file(follower)
    client = connect(follower.live.settings)
    try:
        await ConfigCenter(follower, client).look_at_redis(FIRST_LOOK_S)
    finally:
        await client.aclose()
    await _look_at_file(follower)
    follower.begin()


async def _look_at_file(follower: Follower) -> None:
    if follower.reads_file:
        await asyncio.to_thread(follower.look_at_file)  # its disk may hang
