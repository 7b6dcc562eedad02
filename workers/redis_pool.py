"""A pool of connections to Redis that costs little where nothing is wrong, which is nearly always.

Of a call by its digest redis-py 8.1 takes a third for its pool: counting that nobody reads, a lock
and a retry for each look. What is not in order is left to it, step for step.
"""

from __future__ import annotations

import os
from queue import Empty
from typing import Any

import redis

from workers.sockets import is_readable


class QuickLook:
    """redis-py looks at every connection before each call, with a `poll` that gevent makes dear."""

    _sock: Any
    _parser: Any

    def can_read(self, timeout: float = 0) -> bool:
        """Whether there is something to read: a reply that nobody took, or the connection's end."""
        if timeout == 0 and self.is_quiet():
            return False
        return bool(super().can_read(timeout))  # type: ignore[misc]

    def is_quiet(self) -> bool:
        """It is connected, and nobody has said anything."""
        if self._sock is None or self._parser._reader.has_data():
            return False
        return not is_readable(self._sock)


class PlainConnection(QuickLook, redis.Connection):  # type: ignore[misc]
    """To one server, without TLS."""


class LendingPool(redis.BlockingConnectionPool):  # type: ignore[misc]
    """Lends an idle connection as it is and takes it back, if it is in order."""

    def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> Any:
        """As in redis-py. Raises: redis.exceptions.ConnectionError."""
        connection = self._quiet_one() if self.pid == os.getpid() else None
        return connection or super().get_connection()

    def _quiet_one(self) -> Any:
        """An idle connection in order; any other is put back, for redis-py to mend."""
        try:
            connection = self.pool.get_nowait()
        except Empty:
            return None  # redis-py waits for one
        is_quiet = False
        try:
            is_quiet = isinstance(connection, QuickLook) and connection.is_quiet()
        finally:  # Celery's time limit may end the look
            if not is_quiet:
                self.pool.put_nowait(connection)
        return connection if is_quiet else None

    def release(self, connection: Any) -> None:
        """As in redis-py."""
        if self.pid == connection.pid == os.getpid() and not connection.should_reconnect():
            self.pool.put_nowait(connection)
        else:
            super().release(connection)
