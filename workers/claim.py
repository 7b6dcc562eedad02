"""One worker's right to a lane's head, and its wish for one."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.state import keys
from shared.state.keys import LaneKeys


@dataclass(frozen=True, slots=True)
class Claim:
    """One worker's right to a lane's head.

    head: event id; with a leading mark (`shared.state.keys`) it stands for a notice about it.
    attempt: from 1. since_ms: first attempt in this stage. now_ms: Redis's time at the claim.
    unsure_ms: first send whose outcome nobody knows (None: every earlier send is accounted for).
    is_poison: three processes died on this head in its own turn; don't run it, bury it.
    asked_at: when Redis was asked for it (monotonic).
    record: the event's hash. history: JSON turns, oldest first (inboxes only).
    """

    id: str
    lane: str
    head: str
    attempt: int
    since_ms: int
    now_ms: int
    unsure_ms: int | None
    is_poison: bool
    asked_at: float
    record: Mapping[str, str]
    history: Sequence[str]

    @property
    def waited_s(self) -> float:
        """Its age by our own clock; so much of its task's time is gone.

        It goes on counting after Redis has told of it: one that comes with the end of another claim
        is held by nobody until the work on it begins, and this process may be frozen meanwhile.
        """
        return time.monotonic() - self.asked_at

    @property
    def keys(self) -> LaneKeys:
        return LaneKeys(self.lane)

    @property
    def event_id(self) -> str:
        return keys.event_id_of(self.head)

    @property
    def is_notice(self) -> bool:
        return self.head != self.event_id

    @property
    def is_working_notice(self) -> bool:
        """The word that it takes longer, of an event that is still worked on."""
        return self.head.startswith(keys.WORKING_MARK)

    @property
    def entered_ms(self) -> int:
        """When it came to its stage; its first attempt may be long after, behind others."""
        stamp = "written" if self.keys.is_outbox else "accepted"
        return int(self.record.get(stamp, self.since_ms))

    @property
    def event_key(self) -> str:
        return self.keys.bot.event(self.event_id)


@dataclass(frozen=True, slots=True)
class GoOn:
    """Whether a worker that ends a claim wants the next one of its stage in the same call."""

    wanted: bool
    history_entries: int = 0


STOP = GoOn(wanted=False)


@dataclass(frozen=True, slots=True)
class Wish:
    """A claim to be. Its id is made before anybody is asked; an empty one asks for nothing."""

    claim_id: str
    history_entries: int
    asked_at: float

    @staticmethod
    def of(go_on: GoOn) -> Wish:
        claim_id = secrets.token_urlsafe(9) if go_on.wanted else ""
        return Wish(claim_id, go_on.history_entries, time.monotonic())


def claim_of(wish: Wish, answer: Sequence[Any]) -> Claim:
    """The claim that a script tells of (`claimed` in `lua/_claim.lua`)."""
    _, lane, head, tries, since, unsure, poison, now, flat, history = answer
    return Claim(
        id=wish.claim_id,
        lane=lane,
        head=head,
        attempt=int(tries),
        since_ms=int(since),
        now_ms=int(now),
        unsure_ms=int(unsure) if unsure else None,
        is_poison=bool(poison),
        asked_at=wish.asked_at,
        record=dict(zip(flat[::2], flat[1::2], strict=True)),
        history=history,
    )
