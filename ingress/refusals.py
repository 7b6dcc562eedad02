"""Refused calls: told of one by one up to a point, and counted exactly.

`auth.log` has the first `FULL_LINES` of each reason and address in a minute, `MOST_LINES` of all,
and at its end one line with the sums, if any were left out: a flood costs a few lines, one from
everywhere a few hundred. An address of IPv6 counts as its /64. The sums of the days are in Redis,
added every `FLUSH_S` by one call, off the requests' way. A process that is killed takes its last
seconds' counts with it; one that stops does not.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import redis.asyncio
from aiohttp import web
from redis.exceptions import RedisError

from ingress.addresses import Caller, is_forwarded
from ingress.patience import within
from shared import audit
from shared.local_time import utc_offset_s
from shared.state import keys
from shared.state.refused import Kind, address_field, kind_field
from shared.state.scripts import script

FLUSH_S = 5.0
DEADLINE_S = 1.0  #: of one call
MINUTE_S = 60.0
FULL_LINES = 10  #: of a reason and an address, in a minute
MOST_LINES = 500  #: of all, in a minute
#: Addresses told apart between two calls, and in a minute; the others are counted together.
MOST_ADDRESSES = 1000
TOP_ADDRESSES = 10  #: in a minute's line

Clock = Callable[[], float]


class Refusal(NamedTuple):
    """One refused call. peer: who forwarded it, or claimed to."""

    kind: Kind
    caller: Caller
    peer: str = ""

    @classmethod
    def of(cls, kind: Kind, caller: Caller, request: web.BaseRequest) -> Refusal:
        peer = request.remote or "" if is_forwarded(request) else ""
        return cls(kind, caller, peer)


class Refusals:
    """All refusals of this process. clock: monotonic, in seconds."""

    def __init__(
        self, client: redis.asyncio.Redis, zone: ZoneInfo, clock: Clock = time.monotonic
    ) -> None:
        """zone: where a day begins."""
        self._clock = clock
        self._minute = _Minute(clock())
        self._sums = _Sums(client, zone)

    def note(self, refusal: Refusal) -> None:
        """Tell of it, or only count it. Waits for nothing."""
        self._end_minute()
        if self._minute.add(refusal):
            facts = {**refusal.kind._asdict(), "address": refusal.caller.name}
            if refusal.peer:
                facts["peer"] = refusal.peer
            audit.write(audit.REFUSALS, "request.refused", level=logging.WARNING, **facts)
        self._sums.add(refusal)

    async def run(self) -> None:
        """Until cancelled: the counts to Redis, and the lines of minutes that are over."""
        while True:
            await asyncio.sleep(FLUSH_S)
            self._end_minute()
            await self.flush()

    async def flush(self) -> None:
        """What was counted goes to Redis; where it can't, it waits for the next time."""
        with suppress(RedisError, OSError, TimeoutError):
            await self._sums.flush()

    async def stop(self) -> None:
        """The end of the process: nothing is kept back."""
        self._end_minute(is_last=True)
        await self.flush()

    def _end_minute(self, *, is_last: bool = False) -> None:
        now = self._clock()
        if not is_last and now - self._minute.began < MINUTE_S:
            return
        ended, self._minute = self._minute, _Minute(now)
        if ended.unlogged:
            facts = ended.summary()
            audit.write(audit.REFUSALS, "requests.refused", level=logging.WARNING, **facts)


class _Minute:
    """What was refused since `began`."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.unlogged = 0
        self._kinds: Counter[Kind] = Counter()
        self._lines = 0
        self._told: Counter[tuple[str, str]] = Counter()
        self._addresses: Counter[str] = Counter()

    def add(self, refusal: Refusal) -> bool:
        """Count it; whether it has a line of its own."""
        self._kinds[refusal.kind] += 1
        self._addresses[_bounded(self._addresses, refusal.caller.group)] += 1
        source = (refusal.kind.reason, refusal.caller.group)
        if self._lines < MOST_LINES and self._told[source] < FULL_LINES:
            self._told[source] += 1
            self._lines += 1
            return True
        self.unlogged += 1
        return False

    def summary(self) -> dict[str, Any]:
        return {
            "refused": self._kinds.total(),
            "without_a_line": self.unlogged,
            "counts": [
                {**kind._asdict(), "count": count} for kind, count in self._kinds.most_common()
            ],
            "addresses": [
                {"address": address or "(others)", "count": count}
                for address, count in self._addresses.most_common(TOP_ADDRESSES)
            ],
        }


class _Sums:
    """Counts on their way to Redis. A call whose answer was lost is made again, and counts once."""

    def __init__(self, client: redis.asyncio.Redis, zone: ZoneInfo) -> None:
        self._add = client.register_script(script("audit_refused"))
        self._zone = zone
        self._kinds: Counter[Kind] = Counter()
        self._addresses: Counter[str] = Counter()
        self._sent: tuple[str, list[Any]] | None = None  #: name and content of the call under way

    def add(self, refusal: Refusal) -> None:
        self._kinds[refusal.kind] += 1
        self._addresses[_bounded(self._addresses, refusal.caller.group)] += 1

    async def flush(self) -> None:
        """One call, after that whose answer was lost. What comes meanwhile is for the next time.

        Raises: RedisError, OSError, TimeoutError; nothing is lost then, nor counted twice.
        """
        if self._sent:
            await self._send(self._sent)
        if self._kinds:
            self._sent = self._take()
            await self._send(self._sent)

    async def _send(self, call: tuple[str, list[Any]]) -> None:
        name, counts = call
        offset_s = utc_offset_s(self._zone, int(time.time() * 1000))
        args = [keys.REFUSED_PREFIX, offset_s, *counts]
        mark = keys.AUDIT_SENT_PREFIX + name
        await within(DEADLINE_S, self._add(keys=[mark], args=args))
        self._sent = None

    def _take(self) -> tuple[str, list[Any]]:
        counted = {kind_field(kind): count for kind, count in self._kinds.items()}
        counted |= {address_field(name): count for name, count in self._addresses.items()}
        self._kinds, self._addresses = Counter(), Counter()
        return secrets.token_urlsafe(9), [each for pair in counted.items() for each in pair]


def _bounded(known: Counter[str], address: str) -> str:
    """The address, or nothing where there are too many already."""
    return address if address in known or len(known) < MOST_ADDRESSES else ""
