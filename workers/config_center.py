"""A worker process follows the configuration centre: a look each second, in a thread of its own."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import sys
import threading
import time

import redis
from redis.exceptions import RedisError

from shared.config import Settings
from shared.config.follow import INTERVAL_S, Follower
from shared.config.live import Live
from shared.state import keys
from workers.redis_client import connect

LOOKS_A_LINE = 60  #: while Redis is awaited

logger = logging.getLogger(__name__)


class ConfigCenter:
    """The centre as the worker's main process and each process it forks see it."""

    def __init__(self, follower: Follower) -> None:
        """Looks once, so that a worker starts with what the centre says; Redis may be away.

        Raises:
            ConfigError: what a place says can't be used, or the file is away.
        """
        self._follower = follower
        self._main_pid = os.getpid()
        self._followed_in = 0
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        first_look(follower)
        follower.begin()

    @property
    def live(self) -> Live:
        return self._follower.live

    @property
    def is_whole(self) -> bool:
        """Redis was not away when the settings were made."""
        return self._follower.is_whole

    def await_redis(self) -> None:
        """Return when Redis can be read. To work without it is neither possible nor wanted.

        SIGTERM ends the wait and the process: Celery obeys it only later, and the first process of
        a container has no other answer to it.
        """
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        client = _client(self.live.settings)
        for look in itertools.count():
            _look_at_redis(self._follower, client)
            if "redis" not in self._follower.away:
                client.connection_pool.disconnect()
                return
            if look % LOOKS_A_LINE == 0:
                metadata = {"setting": "CLAWDBOT_REDIS__URL"}
                logger.error("redis.awaited", extra={"metadata": metadata})
            time.sleep(INTERVAL_S)

    def follow(self) -> None:
        """Follow it in this very process from now on; asked again, go on.

        A process that was forked long after the last look of its parent's looks at once.
        """
        with self._starting:
            if self._followed_in == os.getpid():
                return
            self._followed_in = os.getpid()
            client = _client(self.live.settings)
            self._look(client)
            self._stopped = threading.Event()  # new in each process: a fork may find it locked
            self._thread = threading.Thread(
                target=self._run, args=(client, self._stopped), name="config center", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """Follow it no longer in this process; a look under way is waited for."""
        if self._thread is not None:
            self._stopped.set()
            self._thread.join()

    def tell(self) -> None:
        """Log what has happened; of many processes of one worker the main one does."""
        if os.getpid() == self._main_pid:
            self._follower.tell()
        else:
            self._follower.forget()

    def _run(self, client: redis.Redis, stopped: threading.Event) -> None:
        while not stopped.wait(INTERVAL_S):
            self._look(client)
        client.connection_pool.disconnect()

    def _look(self, client: redis.Redis) -> None:
        self._follower.look_at_file()
        _look_at_redis(self._follower, client)
        self.tell()


def first_look(follower: Follower) -> None:
    """For who looks once: the file may say where Redis is, and may need what is there."""
    follower.look_at_file()
    client = _client(follower.live.settings)
    try:
        _look_at_redis(follower, client)
    finally:
        client.connection_pool.disconnect()  # nothing of it is left to a fork
    follower.look_at_file()


def _look_at_redis(follower: Follower, client: redis.Redis) -> None:
    if not follower.reads_redis:
        return
    try:
        values = client.hgetall(keys.CONFIG)
    except (RedisError, OSError, ValueError) as error:
        follower.miss("redis", error)
    else:
        follower.take_hash(values)


def _client(settings: Settings) -> redis.Redis:
    """Of its own: it must not wait for a stage's connections, nor for Redis more than once."""
    return connect(settings, max_connections=1, retries=0)
