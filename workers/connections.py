"""urllib3's connections and pools, lent for one call at a time and held to its deadline."""

from __future__ import annotations

import socket
import ssl
import time
from http.client import HTTPException
from typing import Any, cast
from urllib.parse import urlsplit
from urllib.request import getproxies_environment

from requests import PreparedRequest
from requests.adapters import HTTPAdapter
from requests.utils import should_bypass_proxies
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from shared.errors import NotSentError, OutcomeUnknownError, PermanentError, TaskError
from shared.platforms.settings import is_loopback
from workers.deadline import Deadline, Guard
from workers.resolver import Address, Resolver
from workers.sockets import is_readable

IDLE_S = 20.0  #: a connection idle for longer is not used again: the server may be closing it
POOLS = 32  #: hosts whose connections are kept


class Call:
    """One exchange. is_effect: the request does something that must not be done twice."""

    __slots__ = ("deadline", "is_effect", "is_sent", "resolver")

    def __init__(self, deadline: Deadline, resolver: Resolver, *, is_effect: bool) -> None:
        self.deadline = deadline
        self.resolver = resolver
        self.is_effect = is_effect
        self.is_sent = False

    def failed(self, error: Exception) -> TaskError:
        """What became of the request when the transport failed with `error`."""
        if self.deadline.expired:
            return self.over()
        if self.is_sent:
            return OutcomeUnknownError("http:cut", f"no whole answer: {_reason(error)}")
        if isinstance(error, ValueError):
            return unsendable()
        return NotSentError("http:not_sent", f"the request was not sent: {_reason(error)}")

    def over(self) -> TaskError:
        """What became of the request when its time is over."""
        error = self.deadline.error()
        if self.is_sent and self.is_effect:
            return OutcomeUnknownError(error.code, "the request went out; no answer in time")
        return error


class Connection(HTTPConnection):
    """Connects within a call's deadline, and puts itself under it, when it is reused, too."""

    _call: Call
    _guard: Guard | None = None
    _rests_since = 0.0

    def begin(self, call: Call) -> None:
        """From now on this is the call's connection."""
        self._call = call
        self.timeout = call.deadline.remaining() + 1  # behind the watchdog, should it ever fail
        if self.sock is not None and self._guard is not None:
            self.sock.settimeout(self.timeout)
            call.deadline.hold(self._guard)

    def connect(self) -> None:
        call = self._call
        try:
            super().connect()
        except (HTTPError, HTTPException, OSError) as error:
            call.deadline.check()
            raise NotSentError(
                "http:connect", f"can't connect to {self.host}:{self.port}: {_reason(error)}"
            ) from None

    def ask(self, request: bytes) -> None:
        """Send a whole request. If it fails, the server has no whole one to act on."""
        self.sock.sendall(request)
        self._call.is_sent = True

    def rest(self) -> None:
        """The call is over, and another may take this connection."""
        self._rests_since = time.monotonic()
        if self._guard is not None:
            self._guard.leave()

    @property
    def is_connected(self) -> bool:
        """urllib3 asks before it reuses a connection."""
        is_young = time.monotonic() - self._rests_since < IDLE_S
        return self.sock is not None and is_young and not is_readable(self.sock)

    def close(self) -> None:
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.retire()
        super().close()

    def _new_conn(self) -> socket.socket:
        call = self._call
        addresses = call.resolver.resolve(self._dns_host, self.port, call.deadline)
        sock = self._connect_first(addresses, call.deadline)
        try:
            self._guard = Guard(sock)
            call.deadline.hold(self._guard)
        except BaseException:
            sock.close()
            raise
        return sock

    def _connect_first(self, addresses: list[Address], deadline: Deadline) -> socket.socket:
        reason = "no address"
        for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            deadline.check()
            try:
                return self._connect_to(address, deadline.remaining() / left)
            except OSError as error:
                reason = _reason(error)
        deadline.check()
        raise NotSentError("http:connect", f"can't connect to {self.host}:{self.port}: {reason}")

    def _connect_to(self, address: Address, timeout_s: float) -> socket.socket:
        family, target = address
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            for option in self.socket_options or ():
                sock.setsockopt(*option)
            sock.settimeout(timeout_s)
            sock.connect(target)
            sock.settimeout(self.timeout)
        except BaseException:
            sock.close()
            raise
        return sock


class TlsConnection(Connection, HTTPSConnection):
    """The same, with TLS; the handshake is under the deadline."""


class Lending(HTTPConnectionPool):
    """A pool that lends connections. urllib3's `urlopen` would send, read and retry by itself."""

    ConnectionCls = Connection

    @property
    def forwards(self) -> bool:
        """It leads to a proxy that wants to know the whole address."""
        return self.proxy is not None and self.scheme == "http"

    def lend(self, call: Call) -> Connection:
        """A connection that is open and under the call's deadline.

        Raises:
            NotSentError, DeadlineError: there is none
        """
        connection: Any = self._get_conn()
        try:
            connection.begin(call)
            if connection.sock is None and self.proxy is not None and self.scheme == "https":
                self._prepare_proxy(connection)
            elif connection.sock is None:
                connection.connect()
        except BaseException:
            self.take_back(connection, keep=False)
            raise
        return cast(Connection, connection)

    def take_back(self, connection: Connection, *, keep: bool) -> None:
        """keep: another call may use it as it is."""
        if keep:
            connection.rest()
        else:
            connection.close()
        self._put_conn(connection)


class _LendingTls(Lending, HTTPSConnectionPool):
    ConnectionCls = TlsConnection


_POOL_CLASSES = {"http": Lending, "https": _LendingTls}


class Pools(HTTPAdapter):
    """requests' adapter, for what it knows of pools and proxies; one TLS context for all of them.

    concurrency: how many idle connections per host are kept.
    The environment's proxies are read here, once.
    """

    def __init__(self, tls: ssl.SSLContext, concurrency: int) -> None:
        self._tls = tls
        self._by_origin: dict[str, Lending] = {}
        self._proxies = getproxies_environment()
        super().__init__(pool_connections=POOLS, pool_maxsize=concurrency)
        self.poolmanager.pool_classes_by_scheme = _POOL_CLASSES

    def of(self, origin: str) -> Lending:
        """The pool of an origin, such as `https://api.dingtalk.com`."""
        pool = self._by_origin.get(origin)
        if pool is None:
            if len(self._by_origin) >= POOLS:  # urllib3 closes the pool that it forgets
                self._by_origin.clear()
            pool = self._by_origin[origin] = self._make(origin)
        return pool

    def _make(self, origin: str) -> Lending:
        request = PreparedRequest()
        request.url = origin + "/"
        direct = (
            not self._proxies
            or is_loopback(urlsplit(origin).netloc)  # the proxy's own machine is another
            or should_bypass_proxies(request.url, no_proxy=None)
        )
        proxies = {} if direct else self._proxies
        pool: Any = self.get_connection_with_tls_context(request, True, proxies=proxies)
        return cast(Lending, pool)

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **proxy_kwargs)
        manager.pool_classes_by_scheme = _POOL_CLASSES
        return manager

    def build_connection_pool_key_attributes(self, request: Any, *_: Any) -> Any:
        host, tls = super().build_connection_pool_key_attributes(request, True)
        return host, {**tls, "ssl_context": self._tls}


def unsendable() -> PermanentError:
    return PermanentError("http:request", "the address or a header of the request can't be sent")


def _reason(error: BaseException) -> str:
    """The root of a chain of errors in words that can't carry a URL."""
    while error.__context__ is not None:
        error = error.__context__
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message}); see REQUESTS_CA_BUNDLE"
    text = error.strerror if isinstance(error, OSError) else None
    return text or type(error).__name__
