"""Senders that take their time: every one of them is left before it has used much of ours."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from tests.hostile.case import head_of, message, said, wire_of
from tests.hostile.siege import statuses

PAUSE_S = 0.2
#: Header 10 s, body 5 s, a second of lingering, half a second between looks; and a busy machine.
END_S = 16.5 + 10


@dataclass(frozen=True, slots=True)
class Slow:
    """start: sent at once; then `drip`, again and again. answers: what may come before the end.

    is_good_at_first: a call as it should be stands before what is slow.
    """

    name: str
    start: bytes
    drip: bytes = b""
    answers: frozenset[int] = frozenset({400, 401, 404, 405, 408, 413})
    is_good_at_first: bool = False


def slow_senders(platform: str) -> Iterator[Slow]:
    request = said(platform, message(platform, "slow"))
    whole = wire_of(request)
    for name, start in _STARTS.items():
        yield Slow(f"{name}, then silence", start.replace(b"PLATFORM", platform.encode()))
    for name, (start, drip) in _DRIPS.items():
        yield Slow(f"{name} that drips", start.replace(b"PLATFORM", platform.encode()), drip)
    for line in ("Content-Length: 999999", "Transfer-Encoding: chunked"):
        yield Slow(f"a signed body of {line!r}, then silence", head_of(request, line))
    yield Slow("a signed body that drips", head_of(request, "Content-Length: 999999"), b" ")
    yield Slow("chunks that drip", head_of(request, "Transfer-Encoding: chunked"), b"1\r\n \r\n")
    yield Slow("a chunk's size that drips", head_of(request, "Transfer-Encoding: chunked"), b"0")
    yield Slow("a good call but for a byte, then silence", whole[:-1])
    kept = whole.replace(b"Connection: close\r\n", b"", 1)
    answers = frozenset({200, 400, 408})
    start = kept + b"GET / HTTP/1.1\r\nX: "
    yield Slow("a good call, then a header that drips", start, b"a", answers, is_good_at_first=True)


async def outcomes(port: int, senders: Iterable[Slow]) -> list[str]:
    """All at once; a line for each that was not left in time, or got what it must not."""
    found = await asyncio.gather(*(_fault(port, sender) for sender in senders))
    return [fault for fault in found if fault]


async def _fault(port: int, sender: Slow) -> str:
    started = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    dripping = asyncio.create_task(_drip(writer, sender))
    got = b""
    try:
        async with asyncio.timeout(END_S):
            with contextlib.suppress(ConnectionError):
                while piece := await reader.read(65_536):
                    got += piece
    except TimeoutError:
        return f"{sender.name}: still there after {time.monotonic() - started:.0f} s"
    finally:
        dripping.cancel()
        writer.transport.abort()
    if not sender.answers.issuperset(statuses(got)):
        return f"{sender.name}: answered {statuses(got)}"
    return ""


async def _drip(writer: asyncio.StreamWriter, sender: Slow) -> None:
    writer.write(sender.start)
    with contextlib.suppress(ConnectionError):
        while sender.drip and not writer.is_closing():
            await asyncio.sleep(PAUSE_S)
            writer.write(sender.drip)


_HEAD = b"POST /PLATFORM/webhook HTTP/1.1\r\nHost: x\r\n"
_NOBODY = b"POST /nobody HTTP/1.1\r\nHost: x\r\n"
_STARTS: Mapping[str, bytes] = {
    "nothing": b"",
    "a letter": b"P",
    "a method": b"POST ",
    "a request line": b"POST /PLATFORM/webhook HTTP/1.1\r\n",
    "a header but for its end": _HEAD + b"Content-Length: 9\r\n",
    "an unsigned header": _HEAD + b"Content-Length: 9\r\n\r\n",
    "a header for nobody": _NOBODY + b"Content-Length: 9\r\n\r\n",
    "a probe with a body": b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",
}
_DRIPS: Mapping[str, tuple[bytes, bytes]] = {
    "white space": (b"", b"\r\n"),
    "a method": (b"", b"P"),
    "a path": (b"POST /PLATFORM/", b"a"),
    "a value": (_HEAD + b"X: ", b"a"),
    "a row of headers": (_HEAD, b"X: a\r\n"),
    "an unsigned body": (_HEAD + b"Content-Length: 9999\r\n\r\n", b"a"),
    "a body for nobody": (_NOBODY + b"Content-Length: 9999\r\n\r\n", b"a"),
}
