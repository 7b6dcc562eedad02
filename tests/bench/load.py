"""Posts requests that were signed beforehand, over kept connections: some 30 µs a request."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import uvloop

from tests.bench.http_bytes import END_OF_HEAD, content_length
from tests.simulator.events import Request

REST_S = 30.0  #: how long the last answers may take


@dataclass(frozen=True, slots=True)
class Shot:
    """What came back. started: `time.monotonic()` of the first request."""

    started: float
    seconds: float
    statuses: Counter[int]
    took_ms: Sequence[float]

    @property
    def rate(self) -> float:
        return len(self.took_ms) / self.seconds

    def percentile_ms(self, percent: float) -> float:
        ordered = sorted(self.took_ms)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]

    def must_be_accepted(self) -> Shot:
        """Raises: RuntimeError, when anything but 200 was answered."""
        if set(self.statuses) != {200}:
            raise RuntimeError(f"the ingress answered {dict(self.statuses)}")
        return self


def wire(request: Request, *, path: str = "") -> bytes:
    """The request's bytes. path: instead of its own."""
    own, headers, body = request
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"POST {path or own} HTTP/1.1\r\nHost: b\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def shoot(
    port: int, requests: Iterable[bytes], *, connections: int = 64, rate: float | None = None
) -> Shot:
    """Post all. rate: so many a second, ready or not; None: as fast as they are answered."""
    return uvloop.run(_shoot(port, deque(requests), connections, rate))


class _Connection(asyncio.Protocol):
    """One request at a time; asks its gun for the next."""

    def __init__(self, gun: _Gun) -> None:
        self._gun = gun
        self._buffer = b""
        self._sent = 0.0
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def send(self, request: bytes, since: float) -> None:
        """since: when it was to be sent; waiting for a free connection counts."""
        self._sent = since
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(END_OF_HEAD)
        if end < 0 or len(self._buffer) < end + 4 + content_length(self._buffer[:end]):
            return
        status, self._buffer = int(self._buffer[9:12]), b""
        self._gun.answered(self, status, time.monotonic() - self._sent)

    def connection_lost(self, exc: Exception | None) -> None:
        self._gun.lost()


class _Gun:
    """Shared by the connections."""

    def __init__(self, requests: deque[bytes], *, closed_loop: bool) -> None:
        self._requests = requests
        self._expected = len(requests)
        self._closed_loop = closed_loop
        self._late: deque[tuple[bytes, float]] = deque()
        self._idle: list[_Connection] = []
        self.statuses: Counter[int] = Counter()
        self.took_ms: list[float] = []
        self.done = asyncio.get_running_loop().create_future()

    def fire(self, request: bytes, since: float) -> None:
        """Send on a free connection, or as soon as one is."""
        if self._idle:
            self._idle.pop().send(request, since)
        else:
            self._late.append((request, since))

    def ready(self, connection: _Connection) -> None:
        if self._late:
            connection.send(*self._late.popleft())
        elif self._closed_loop and self._requests:
            connection.send(self._requests.popleft(), time.monotonic())
        else:
            self._idle.append(connection)

    def answered(self, connection: _Connection, status: int, took_s: float) -> None:
        self.statuses[status] += 1
        self.took_ms.append(took_s * 1000)
        if len(self.took_ms) == self._expected:
            self.done.set_result(None)
        else:
            self.ready(connection)

    def lost(self) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError("the server closed a connection"))


async def _shoot(port: int, requests: deque[bytes], connections: int, rate: float | None) -> Shot:
    loop = asyncio.get_running_loop()
    gun = _Gun(requests, closed_loop=rate is None)
    opened = [
        (await loop.create_connection(lambda: _Connection(gun), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    started = time.monotonic()
    for connection in opened:
        gun.ready(connection)
    if rate is not None:
        await _pace(gun, requests, rate, started)
    await asyncio.wait_for(asyncio.shield(gun.done), None if rate is None else REST_S)
    seconds = time.monotonic() - started
    for connection in opened:
        connection.transport.abort()
    return Shot(started, seconds, gun.statuses, gun.took_ms)


async def _pace(gun: _Gun, requests: deque[bytes], rate: float, started: float) -> None:
    """Send each at its time; a late one is measured from the time it was due."""
    due = started
    while requests:
        now = time.monotonic()
        if now < due:
            await asyncio.sleep(due - now)
        gun.fire(requests.popleft(), due)
        due += 1 / rate
