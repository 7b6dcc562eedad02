"""The ingress's client of Redis: one server, or the primary that the sentinels name."""

from __future__ import annotations

from typing import Any, Final

import hiredis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelManagedConnection
from redis.backoff import ExponentialBackoff

from ingress.scripts import Client
from shared.config import Settings
from shared.config.redis_url import Sentinels

SOCKET_TIMEOUT_S = 5.0  #: a backstop only: redis-py's own timeouts misfire on a busy loop
CONNECTIONS = 8  #: accept uses one at a time; probes and the memory watch the others
SENTINEL_TIMEOUT_S = 0.2  #: a dead one must leave time for the next in the 0.8 s that accept has


def connect(settings: Settings) -> redis.asyncio.Redis:
    """A client for calls under `patience.within`, which ends them fairly when the loop is late."""
    options: dict[str, Any] = {
        "max_connections": CONNECTIONS,
        "timeout": SOCKET_TIMEOUT_S,
        "decode_responses": True,
        "socket_timeout": SOCKET_TIMEOUT_S,
        "socket_connect_timeout": 0.5,
        "health_check_interval": 30,
        "retry": Retry(ExponentialBackoff(cap=0.1, base=0.02), retries=3),
    }
    address = settings.redis.sentinels
    if address is None:
        pool = redis.asyncio.BlockingConnectionPool.from_url(settings.redis.client_url, **options)
    else:
        pool = redis.asyncio.BlockingConnectionPool(
            connection_class=PrimaryConnection,
            connection_pool=Primary(settings, address),
            username=address.username,
            password=address.password,
            db=address.database,
            **options,
        )
    plain = pool.connection_class
    pool.connection_class = type(f"Packing{plain.__name__}", (Packing, plain), {})
    return Client.from_pool(pool)  # closing the client then closes the pool, too


class Packing:
    """A connection that hiredis writes the commands of, as redis-py's synchronous one does.

    redis-py 8.1's asynchronous one does it in Python: 5 µs of CPU per event instead of 1.
    """

    def pack_command(self, *args: Any) -> list[bytes]:
        """The command's bytes. Its name may be two words: `SCRIPT LOAD`."""
        name = args[0].encode() if isinstance(args[0], str) else args[0]
        return [hiredis.pack_command((*name.split(), *args[1:]))]


class PrimaryConnection(SentinelManagedConnection):  # type: ignore[misc]
    """Asks for the primary at every connect.

    redis-py 8.1 repeats a command at the server that it was cut from: by then a replica, or a
    primary just restarted whose writes will be lost.
    """

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send, to the primary of this very moment if there is no connection."""
        if not self.is_connected:
            await self.connect_to(await self.connection_pool.get_master_address())
        await super().send_packed_command(command, check_health)


class Primary:
    """Tells every new connection where the primary is now.

    It stands where a `SentinelManagedConnection` expects redis-py's `SentinelConnectionPool`, which
    doesn't wait for a free connection. A connection to a server that is no longer the primary ends
    by itself: the server is gone, or it refuses to write.
    """

    is_master: Final = True
    check_connection: Final = True

    def __init__(self, settings: Settings, address: Sentinels) -> None:
        password = settings.redis.sentinel_password
        self._nodes = list(address.nodes)
        self.service_name = settings.redis.master_name
        self._options = {
            "password": password.get_secret_value() if password else None,
            "socket_timeout": SENTINEL_TIMEOUT_S,
            "socket_connect_timeout": SENTINEL_TIMEOUT_S,
            "retry": None,  # once: the next sentinel is asked instead
        }

    async def get_master_address(self) -> tuple[str, int]:
        """Ask the sentinels, one after the other.

        Raises:
            redis.exceptions.ConnectionError: none knows a primary that is up.
        """
        # Made for one question: concurrent ones would lose a sentinel from a shared list, which
        # redis-py 8.1 reorders in place.
        async with Sentinel(self._nodes, sentinel_kwargs=self._options) as sentinels:
            found: tuple[str, int] = await sentinels.discover_master(self.service_name)
            answered = sentinels.sentinels[0].get_connection_kwargs()
        first = (answered["host"], answered["port"])
        self._nodes.sort(key=lambda node: node != first)  # it is asked first the next time
        return found
