"""The workers' clients of Redis: one server, or the primary that the sentinels name."""

from __future__ import annotations

from typing import Any, Final

import redis
from redis.backoff import ExponentialBackoff
from redis.credentials import CredentialProvider
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelManagedConnection

from shared.config import Settings
from shared.config.redis_url import Sentinels
from workers.redis_pool import LendingPool, PlainConnection, QuickLook
from workers.scripts import Client

SENTINEL_TIMEOUT_S = 0.5


def connect(settings: Settings, *, max_connections: int, retries: int = 3) -> redis.Redis:
    """A client that never waits for ever, and repeats what a short outage cut."""
    options: dict[str, Any] = {
        "max_connections": max_connections,
        "timeout": 5,
        "decode_responses": True,
        "encoding_errors": "replace",  # what can't be read must not stop a lane for ever
        "socket_timeout": settings.redis.socket_timeout_s,
        "socket_connect_timeout": settings.redis.socket_timeout_s,
        "health_check_interval": 30,
        "retry": Retry(ExponentialBackoff(cap=0.5, base=0.05), retries=retries),
        # Where these may come, redis-py 8.1 uses a connection with an old reply in it all the same.
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
    address = settings.redis.sentinels
    if address is None:
        url = settings.redis.client_url
        if url.startswith("redis:"):
            options["connection_class"] = PlainConnection
        pool = LendingPool.from_url(url, **options)
    else:
        pool = LendingPool(
            connection_class=PrimaryConnection,
            connection_pool=Primary(settings, address),
            username=address.username,
            password=address.password,
            db=address.database,
            **options,
        )
    return Client(connection_pool=pool)


def broker_options(settings: Settings) -> dict[str, Any]:
    """What Celery needs to ask the sentinels, besides `broker_url`; empty without sentinels."""
    if settings.redis.sentinels is None:
        return {}
    return {
        "master_name": settings.redis.master_name,
        "sentinel_kwargs": _sentinel_options(settings),
    }


class PrimaryConnection(QuickLook, SentinelManagedConnection):  # type: ignore[misc]
    """Asks for the primary at every connect.

    redis-py 8.1 repeats a command at the server that it was cut from: by then a replica, or a
    primary just restarted whose writes will be lost.
    """

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send, to the primary of this very moment if there is no connection."""
        if not self.is_connected:
            self.connect_to(self.connection_pool.get_master_address())
        super().send_packed_command(command, check_health)


class Primary:
    """Tells every new connection where the primary is now.

    It stands where a `SentinelManagedConnection` expects redis-py's `SentinelConnectionPool`, which
    doesn't wait for a free connection and ends those that other threads have just taken. A
    connection to a server that is no longer the primary ends by itself: the server is gone, or it
    refuses to write.
    """

    is_master: Final = True
    check_connection: Final = True

    def __init__(self, settings: Settings, address: Sentinels) -> None:
        self._nodes = address.nodes
        self.service_name = settings.redis.master_name
        self._options = _sentinel_options(settings)

    def get_master_address(self) -> tuple[str, int]:
        """Ask the sentinels, one after the other.

        Raises:
            redis.exceptions.ConnectionError: none knows a primary that is up.
        """
        # Made for one question: concurrent ones would lose a sentinel from a shared list, which
        # redis-py 8.1 reorders in place.
        with Sentinel(self._nodes, sentinel_kwargs=self._options) as sentinels:
            found: tuple[str, int] = sentinels.discover_master(self.service_name)
            answered = sentinels.sentinels[0].get_connection_kwargs()
        first = (answered["host"], answered["port"])
        self._nodes = tuple(sorted(self._nodes, key=lambda node: node != first))  # asked first next
        return found


class SentinelPassword(CredentialProvider):  # type: ignore[misc]
    """Hides in what Celery tells of its transport options, as `inspect stats` and Flower do."""

    def __init__(self, password: str) -> None:
        self._password = password

    def get_credentials(self) -> tuple[str]:
        return (self._password,)

    def __json__(self) -> str:
        """What kombu writes for it."""
        return "********"


def _sentinel_options(settings: Settings) -> dict[str, Any]:
    options: dict[str, Any] = {
        "socket_timeout": SENTINEL_TIMEOUT_S,
        "socket_connect_timeout": SENTINEL_TIMEOUT_S,
        "retry": None,  # once: the next sentinel is asked instead
    }
    if password := settings.redis.sentinel_password:
        options["credential_provider"] = SentinelPassword(password.get_secret_value())
    return options
