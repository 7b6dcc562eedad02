"""Connections that are cut off, because nothing comes of them or one address holds too many.

aiohttp ends a connection that is idle, and a webhook a body that is slow. What neither of them sees
are headers that drip, answers that nobody takes, and one address with thousands of connections.
Bytes that are no HTTP are refused here, too, since no route sees them.
With the limits here no call takes longer than `HEADER_TIMEOUT_S`, `BODY_TIMEOUT_S` (webhook.py),
what Redis takes (0.8 s) and `ANSWER_TIMEOUT_S` together.
"""

from __future__ import annotations

import asyncio
import collections
from typing import Any, cast

from aiohttp import ClientConnectionResetError, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpProcessingError
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from ingress.addresses import Caller, peer_of
from ingress.door import Door
from ingress.outsiders import Outsiders

HEADER_TIMEOUT_S = 10.0  #: from a connection's first moment, or a header's first byte, to its end
ANSWER_TIMEOUT_S = 10.0  #: for the other side to take what was answered
CONNECTIONS_PER_ADDRESS = 1024  #: in this process; trusted proxies and Unix sockets have no limit
LOOK_S = 0.5  #: how often connections are looked at
#: What a stranger's bytes make aiohttp's parser raise, in a head or in a body.
STRANGERS_FAULTS = (HttpProcessingError, web.RequestPayloadError)


class Runner(web.AppRunner):
    """aiohttp's runner with connections of ours. options: as for `web.RequestHandler`."""

    def __init__(
        self,
        app: web.Application,
        door: Door,
        outsiders: Outsiders,
        *,
        shutdown_timeout: float,
        **options: Any,
    ) -> None:
        super().__init__(app, shutdown_timeout=shutdown_timeout)
        self._door = door
        self._outsiders = outsiders
        self._options = options

    async def _make_server(self) -> web.Server:
        plain = await super()._make_server()
        return Server(plain, self._door, self._outsiders, self._options)


class Server(web.Server):
    """Makes the connections, counts them by address, and looks after them."""

    def __init__(
        self, plain: web.Server, door: Door, outsiders: Outsiders, options: dict[str, Any]
    ) -> None:
        super().__init__(plain.request_handler, request_factory=self._begin)
        self._make = plain.request_factory
        self._door = door
        self.outsiders = outsiders
        self._options = options
        self._held: collections.Counter[str] = collections.Counter()
        self._timer = self._loop.call_later(LOOK_S, self._look)

    def __call__(self) -> web.RequestHandler:
        return Connection(self, self._loop, self._options)

    async def shutdown(self, timeout: float | None = None) -> None:
        self._timer.cancel()
        await super().shutdown(timeout)

    def enter(self, peer: Caller) -> bool:
        """Whether one more connection of `peer` may be."""
        if self._held[peer.group] >= CONNECTIONS_PER_ADDRESS and not self._is_shared(peer):
            self.outsiders.cut("too_many", peer)
            return False
        self._held[peer.group] += 1
        return True

    def leave(self, peer: Caller) -> None:
        """One that was let in has ended."""
        self._held[peer.group] -= 1
        if not self._held[peer.group]:
            del self._held[peer.group]

    def _is_shared(self, peer: Caller) -> bool:
        return peer.address is None or self._door.trusts(peer)

    def _begin(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        cast(Connection, protocol).begin(payload)
        return self._make(message, payload, protocol, writer, task)

    def _look(self) -> None:
        now = self._loop.time()
        for connection in self.connections:
            cast(Connection, connection).look(now)
        self._timer = self._loop.call_later(LOOK_S, self._look)


class Connection(web.RequestHandler):
    """One connection, and since when it keeps us waiting."""

    __slots__ = ("_body", "_header_since", "_peer", "_server", "_stuck_since")

    def __init__(
        self, server: Server, loop: asyncio.AbstractEventLoop, options: dict[str, Any]
    ) -> None:
        super().__init__(server, loop=loop, **options)
        self._server = server
        self._peer: Caller | None = None  #: None: it was not let in
        self._body: StreamReader = EMPTY_PAYLOAD
        self._header_since: float | None = None
        self._stuck_since: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = peer_of(_name(transport.get_extra_info("peername")))
        if not self._server.enter(peer):
            cast(asyncio.Transport, transport).abort()  # uvloop's own is no subclass of it
            return
        self._peer = peer
        self._header_since = self._loop.time()
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._peer is not None:
            self._server.leave(self._peer)
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        # Called with nothing, too, when aiohttp goes on with what it has.
        if data and self._header_since is None and self._body.is_eof():
            self._header_since = self._loop.time()
        super().data_received(data)

    def begin(self, body: StreamReader) -> None:
        """A whole header is there."""
        self._header_since = None
        self._body = body

    def pause_writing(self) -> None:
        self._stuck_since = self._loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._stuck_since = None
        super().resume_writing()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """A stranger's faults are refused, without a line for each; our own bugs stay errors."""
        reason = _strangers_fault(exc)
        if self._peer is None or not reason:
            return super().handle_error(request, status, exc, message)
        self._server.outsiders.refuse(reason, self._peer)
        response = web.Response(status=400, text=message)
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Not of what follows a call that was answered, and thereby counted, already."""
        if not isinstance(kw.get("exc_info"), STRANGERS_FAULTS):
            super().log_exception(*args, **kw)

    def look(self, now: float) -> None:
        """Cut off what has kept us waiting for too long."""
        if self._header_since is not None and now - self._header_since > HEADER_TIMEOUT_S:
            self._end("slow_header")
        elif self._stuck_since is not None and now - self._stuck_since > ANSWER_TIMEOUT_S:
            self._end("answer_not_taken")

    def _end(self, reason: str) -> None:
        self._header_since = self._stuck_since = None
        if self.transport is not None and self._peer is not None:
            self._server.outsiders.cut(reason, self._peer)
            self.transport.abort()


def _strangers_fault(error: BaseException | None) -> str:
    if isinstance(error, STRANGERS_FAULTS):
        return "bad_http"
    # By aiohttp's own `100 Continue`, before a handler is asked: what these read is their matter.
    return "hung_up" if isinstance(error, ClientConnectionResetError) else ""


def _name(peername: Any) -> str | None:
    """As `web.BaseRequest.remote` gives it."""
    return str(peername[0]) if isinstance(peername, tuple | list) else peername
