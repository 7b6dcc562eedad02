"""The line that stays of a finished event for a day; `finish` in `lua/_history.lua` writes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

DAY_MS = 86_400_000
FATES = ("answered", "rejected", "cancelled", "dropped")  #: of each, the first letter is kept
_BASE = 36
_NEVER = "-"


@dataclass(frozen=True, slots=True)
class Finished:
    """What is known of it. Times are ms of Redis's clock; None: it never happened.

    code: of the last failed attempt, or why policy rejected it.
    """

    fate: str
    accepted_ms: int
    claimed_ms: int | None
    written_ms: int | None
    ended_ms: int
    process_tries: int
    push_tries: int
    process_worker: str = ""
    push_worker: str = ""
    route: str = ""
    code: str = ""


def read_finished(line: str, words: Mapping[str, str]) -> Finished:
    """`line` in the words of its day: the numbers of each, as `clawdbot:words:{day}` has them."""
    if line[1] == " ":
        return _read_first_release(line)
    head, claimed, written, ended, _ = line.split(" ")
    named = {number: word for word, number in words.items()}
    numbers = [head[at : at + 2] for at in range(3, 11, 2)]
    process_worker, push_worker, route, code = (named.get(number, "") for number in numbers)
    accepted_ms = int(head[11:], _BASE)
    return Finished(
        fate=_fate(head[0]),
        accepted_ms=accepted_ms,
        claimed_ms=_since(accepted_ms, claimed),
        written_ms=_since(accepted_ms, written),
        ended_ms=accepted_ms + int(ended, _BASE),
        process_tries=int(head[1], _BASE),
        push_tries=int(head[2], _BASE),
        process_worker=process_worker,
        push_worker=push_worker,
        route=route,
        code=code,
    )


def ended_day(line: str) -> int:
    """The day of Unix time whose words the line is written in."""
    return read_finished(line, {}).ended_ms // DAY_MS


def _since(accepted_ms: int, passed: str) -> int | None:
    return None if passed == _NEVER else accepted_ms + int(passed, _BASE)


def _fate(letter: str) -> str:
    return next(fate for fate in FATES if fate.startswith(letter))


def _read_first_release(line: str) -> Finished:
    """Times in decimal, no names: what 0.1.0 wrote stands for a day after an upgrade."""
    letter, accepted, written, ended, process_tries, push_tries, _ = line.split(" ")
    accepted_ms = int(accepted)
    return Finished(
        fate=_fate(letter),
        accepted_ms=accepted_ms,
        claimed_ms=None,
        written_ms=None if written == _NEVER else accepted_ms + int(written),
        ended_ms=accepted_ms + int(ended),
        process_tries=int(process_tries),
        push_tries=int(push_tries),
    )
