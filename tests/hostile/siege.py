"""A gateway under siege: sends cases over sockets, and looks what came of them."""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import time
from collections.abc import Iterable

import redis

from shared.state.keys import BotKeys
from tests.hostile.case import CLOSED, Case, wire_of
from tests.integration.gateway import CREDENTIALS, build
from tests.simulator import credentials as names

END_TIMEOUT_S = 60.0  #: longer than all limits of ours together, on a busy machine
HONEST_S = (
    5.0  #: an honest call must be acknowledged within; the platforms' 3 s, and a busy machine
)
HONEST_EVERY = 40

BOTS = {
    "dingtalk": BotKeys("dingtalk", CREDENTIALS[names.DINGTALK_APP_KEY]),
    "feishu": BotKeys("feishu", CREDENTIALS[names.FEISHU_APP_ID]),
}


class Siege:
    """client: of the Redis that the gateway on `port` writes to."""

    def __init__(self, port: int, client: redis.Redis) -> None:
        self._port = port
        self._client = client
        self.honest_calls = 0

    async def faults(self, platform: str, cases: Iterable[Case]) -> list[str]:
        """Send one after the other; a line for each that did what it must not."""
        found = []
        for number, case in enumerate(cases):
            if number % HONEST_EVERY == 0:
                found += await self.honest_faults(platform)
            found += await self._try(platform, case)
        return found + await self.honest_faults(platform)

    async def honest_faults(self, platform: str) -> list[str]:
        """Whether a call as it should be is acknowledged, soon, and recorded."""
        self.honest_calls += 1
        before, started = self.events(platform), time.monotonic()
        answer = await self.exchange(wire_of(build(platform, conversation=f"h{time.time_ns()}")))
        took_s = time.monotonic() - started
        is_recorded = self.events(platform) > before
        if statuses(answer) != [200] or not is_recorded or took_s > HONEST_S:
            return [f"an honest call: {statuses(answer)} after {took_s:.1f} s"]
        return []

    def events(self, platform: str) -> int:
        """How many were recorded so far."""
        return int(self._client.hget(BOTS[platform].counts, "accepted") or 0)

    async def exchange(self, wire: bytes, *, half_closes: bool = False) -> bytes:
        """Send, and take all that comes until the connection ends.

        Raises:
            TimeoutError: it did not end.
        """
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        got = b""
        try:
            async with asyncio.timeout(END_TIMEOUT_S):
                with contextlib.suppress(OSError):  # it ended before all was sent
                    writer.write(wire)
                    if half_closes:
                        writer.write_eof()
                    while piece := await reader.read(65_536):
                        got += piece
        finally:
            writer.transport.abort()
        return got

    async def _try(self, platform: str, case: Case) -> list[str]:
        before, faults = self.events(platform), []
        try:
            found = statuses(await self.exchange(case.wire, half_closes=case.half_closes))
        except TimeoutError:
            return [f"{case.name}: the connection did not end"]
        if case.half_closes:
            # A call whose sender has left is still carried out, before the next one is recorded.
            faults += await self.honest_faults(platform)
            before += 1
        events = self.events(platform) - before
        if not case.answers.issuperset(found or [CLOSED]):
            faults.append(f"{case.name}: answered {found[:5]}")
        if case.events not in (None, events):
            faults.append(f"{case.name}: {events} events, answered {found[:5]}")
        return faults


def statuses(answer: bytes) -> list[int]:
    """Of all answers that came, in their order; `100 Continue` is none yet."""
    found = [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer)]
    return [status for status in found if status >= 200]


def memory_mib(pid: int) -> float:
    """What a process holds in memory."""
    told = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, check=True)
    return int(told.stdout) / 1024
