"""urllib3 connections that know their call: its deadline, and whether request bytes went out."""

from __future__ import annotations

import socket
import ssl
import time
from contextvars import ContextVar
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from shared.errors import NotSentError, OutcomeUnknownError, PermanentError, TaskError
from workers.deadline import Deadline, Guard
from workers.resolver import Address, Resolver

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


#: The call that this thread or greenlet is opening.
CALL: ContextVar[Call] = ContextVar("CALL")


class _Guarded(HTTPConnection):
    """Connects within the call's deadline, and puts itself under it, when it is reused, too."""

    _guard: Guard | None = None
    _rests_since = 0.0
    _unsent: list[bytes] | None = None

    def _new_conn(self) -> socket.socket:
        call = CALL.get()
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

    def connect(self) -> None:
        call = CALL.get()
        try:
            super().connect()
        except (HTTPError, HTTPException, OSError) as error:
            call.deadline.check()
            raise NotSentError(
                "http:connect", f"can't connect to {self.host}:{self.port}: {_reason(error)}"
            ) from None
        call.is_sent = False  # what a proxy was asked for its tunnel does not count

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Head and body leave in one piece: http.client sends two, which costs both sides more."""
        if self._guard is not None:
            CALL.get().deadline.hold(self._guard)
        self._unsent = []
        try:
            super().request(*args, **kwargs)
            whole = b"".join(self._unsent)
        finally:
            self._unsent = None
        self.send(whole)

    def send(self, data: Any) -> None:
        """If it fails, the server has no whole request to act on."""
        if self._unsent is not None:
            if self.sock is None:
                self.connect()
            self._unsent.append(bytes(data))
            return
        super().send(data)
        CALL.get().is_sent = True

    def rest(self) -> None:
        """The call is over, and another may take this connection."""
        self._rests_since = time.monotonic()
        if self._guard is not None:
            self._guard.leave()

    @property
    def is_connected(self) -> bool:
        """urllib3 asks before it reuses a connection."""
        return time.monotonic() - self._rests_since < IDLE_S and super().is_connected

    def close(self) -> None:
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.retire()
        super().close()


class _GuardedTls(_Guarded, HTTPSConnection):
    """The same, with TLS; the handshake is under the deadline."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Guarded

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.rest()
        super()._put_conn(conn)


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _GuardedTls

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.rest()
        super()._put_conn(conn)


_POOL_CLASSES = {"http": _Pool, "https": _TlsPool}


@dataclass(frozen=True, slots=True)
class Opened:
    """What `Adapter.send` returns: the head of an answer, its body still to be read."""

    raw: Any


class Adapter(HTTPAdapter):
    """requests' adapter with our connections, and one TLS context for all of them.

    What a call does not need is left out: the pool's key is not worked out each time, and no
    Response with cookies, history and hooks is built. Measured together with sending in one piece:
    a third of a call's CPU.
    """

    def __init__(self, tls: ssl.SSLContext, concurrency: int) -> None:
        self._tls = tls
        self._pools: dict[str, Any] = {}
        super().__init__(pool_connections=POOLS, pool_maxsize=concurrency)
        self.poolmanager.pool_classes_by_scheme = _POOL_CLASSES

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **proxy_kwargs)
        manager.pool_classes_by_scheme = _POOL_CLASSES
        return manager

    def get_connection_with_tls_context(
        self, request: Any, verify: Any, proxies: Any = None, cert: Any = None
    ) -> Any:
        """The pool of the request's host."""
        if proxies:
            return super().get_connection_with_tls_context(request, verify, proxies, cert)
        origin = request.url[: request.url.index("/", len("https://"))]
        pool = self._pools.get(origin)
        if pool is None:
            if len(self._pools) >= POOLS:  # urllib3 closes the pool that it forgets
                self._pools.clear()
            pool = super().get_connection_with_tls_context(request, verify, proxies, cert)
            self._pools[origin] = pool
        return pool

    def build_response(self, req: Any, resp: Any) -> Any:
        return Opened(resp)

    def build_connection_pool_key_attributes(self, request: Any, *_: Any) -> Any:
        host, tls = super().build_connection_pool_key_attributes(request, True)
        return host, {**tls, "ssl_context": self._tls}

    def cert_verify(self, *_: Any) -> None:
        """Nothing to add: the context verifies. requests would load the bundle again each time."""


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
