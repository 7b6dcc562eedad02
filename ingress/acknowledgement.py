"""The answer to almost every call: 200, `{}`, the event's trace id."""

from __future__ import annotations

import time
from email.utils import formatdate
from functools import lru_cache

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import SERVER_SOFTWARE

BODY = b"{}"
TYPE = "application/json"


def acknowledge(request: web.Request, trace_id: str) -> web.StreamResponse:
    """200. trace_id: one of ours, which a header can carry."""
    if request.keep_alive and request.version == HttpVersion11:
        return _Acknowledgement(trace_id)
    return web.Response(body=BODY, headers={"Content-Type": TYPE, "X-Trace-Id": trace_id})


class _Acknowledgement(web.StreamResponse):
    """What aiohttp would send over a connection that stays open, written in one piece.

    The general way, with its dictionary of headers, took 45 of the 330 µs that an event then cost.
    """

    def __init__(self, trace_id: str) -> None:
        super().__init__()
        self._trace_id = trace_id
        self._writer: AbstractStreamWriter | None = None

    @property
    def keep_alive(self) -> bool:
        return True

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        self._writer = request.writer
        return self._writer

    async def write_eof(self, data: bytes = b"") -> None:
        assert self._writer is not None
        head = _head(int(time.time()))
        await self._writer.write_eof(b"%b%b\r\n\r\n%b" % (head, self._trace_id.encode(), BODY))


@lru_cache(maxsize=1)  # the clock is written out once a second
def _head(second: int) -> bytes:
    return (
        f"HTTP/1.1 200 OK\r\nContent-Type: {TYPE}\r\nContent-Length: {len(BODY)}\r\n"
        f"Date: {formatdate(second, usegmt=True)}\r\nServer: {SERVER_SOFTWARE}\r\nX-Trace-Id: "
    ).encode()
