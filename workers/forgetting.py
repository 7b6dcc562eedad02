"""Erasing a person: what waits, what died, what is remembered, what was counted.

Safe while workers run, and safe to repeat; what the person writes meanwhile is new. A group's
history doesn't say who wrote an entry: it is forgotten as a whole, or not at all.

Nothing is found by walking the keyspace: unfinished events stand in the lanes of the due index,
dead ones among the bot's letters, remembered conversations in a set of the person's own. Work is
done in pages, so that no call holds Redis up.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import redis

from shared.local_time import DAY_S
from shared.messages import digest
from shared.state import keys
from shared.state.keys import USAGE_DAYS, BotKeys, LaneKeys
from workers.store import Lanes
from workers.usage import user_field

PAGE = 100  #: lanes, letters or events looked at by one call
#: An event may pass from one lane to another while they are looked through, and be overlooked.
MAX_PASSES = 10
OTHERS = user_field("")

Seen = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Traces:
    """What a bot has of a person. private, groups: conversations with a history."""

    unfinished: int
    letters: int
    private: int
    groups: int
    usage_days: int
    quotas: int


@dataclass(frozen=True, slots=True)
class _Record:
    event_id: str
    lane: str
    is_group: bool


class Person:
    """Someone who writes to a bot. person_id: the platform's id of the sender."""

    def __init__(self, client: redis.Redis, lanes: Lanes, bot: BotKeys, person_id: str) -> None:
        """lanes: nobody's worker's."""
        self._client = client
        self._lanes = lanes
        self._bot = bot
        self._id = person_id

    @property
    def alias(self) -> str:
        """Names the person in the audit trail, which must not hold what was erased."""
        return digest(self._bot.platform, self._bot.app_id, self._id)

    def to_look_through(self) -> int:
        """About how many lanes and letters `traces` and `erase` look at."""
        return int(self._client.zcard(keys.DUE)) + int(self._client.zcard(self._bot.dead))

    def traces(self, seen: Seen) -> Traces:
        """What there is. seen: told how many lanes and letters more were looked at."""
        records = list(self._unfinished(seen))
        private, groups = self._remembered(self._named(records))
        return Traces(
            unfinished=len(records),
            letters=sum(1 for _ in self._letters(seen)),
            private=len(private),
            groups=len(groups),
            usage_days=self._days_used(),
            quotas=int(self._client.exists(self._quota)),
        )

    def erase(self, seen: Seen, *, with_groups: bool) -> Traces:
        """Everything that `traces` tells of goes; groups' histories if wanted. What there was."""
        records, cancelled = self._cancel_all(seen)
        letters = list(self._letters(seen))
        dropped = sum(self._lanes.drop(self._bot, page) for page in _pages(_ids(letters)))
        named = self._named([*records, *letters])
        private, groups = self._remembered(named)
        for lane in private | groups if with_groups else private:
            self._lanes.forget(LaneKeys(lane))
        if gone := named if with_groups else named - {f"g{lane}" for lane in groups}:
            self._client.srem(self._talks, *gone)
        today = int(self._client.time()[0]) // DAY_S
        return Traces(
            unfinished=cancelled,
            letters=dropped,
            private=len(private),
            groups=len(groups),
            usage_days=self._lanes.forget_use(
                self._bot, user_field(self._id), OTHERS, _days_until(today)
            ),
            quotas=int(self._client.delete(self._quota)),
        )

    @property
    def _talks(self) -> str:
        return self._bot.talks(self._id)

    @property
    def _quota(self) -> str:
        return self._bot.quota("user", self._id)

    def _cancel_all(self, seen: Seen) -> tuple[list[_Record], int]:
        """Until a look finds none: whose, and how many were ended by us."""
        found: list[_Record] = []
        cancelled = 0
        for _ in range(MAX_PASSES):
            records = list(self._unfinished(seen))
            if not records:
                break
            found += records
            pages = _pages(_ids(records))
            cancelled += sum(self._lanes.cancel(self._bot, page) for page in pages)
        return found, cancelled

    def _unfinished(self, seen: Seen) -> Iterator[_Record]:
        for page in self._scan(keys.DUE):
            lanes = [lane for lane in page if LaneKeys(lane).bot == self._bot]
            with self._client.pipeline(transaction=False) as pipe:
                for lane in lanes:
                    pipe.lrange(lane, 0, -1)
                entries = [entry for each in pipe.execute() for entry in each]
            for events in _pages(list(dict.fromkeys(map(keys.event_id_of, entries)))):
                yield from (each for each, is_dead in self._records(events) if not is_dead)
            seen(len(page))

    def _letters(self, seen: Seen) -> Iterator[_Record]:
        for page in self._scan(self._bot.dead):
            yield from (each for each, is_dead in self._records(page) if is_dead)
            seen(len(page))

    def _records(self, event_ids: Sequence[str]) -> Iterator[tuple[_Record, bool]]:
        """The person's among these events, and whether they are dead; finished ones left out."""
        with self._client.pipeline(transaction=False) as pipe:
            for event_id in event_ids:
                pipe.hmget(self._bot.event(event_id), "event", "dead")
            answers = pipe.execute(raise_on_error=False)  # a finished one is no hash
        for event_id, answer in zip(event_ids, answers, strict=True):
            if not isinstance(answer, list) or not answer[0]:
                continue
            event: dict[str, Any] = json.loads(answer[0])
            if event["sender_id"] == self._id:
                lane = self._bot.inbox(event["conversation_id"])
                yield _Record(event_id, lane, event["is_group"]), answer[1] is not None

    def _named(self, records: Iterable[_Record]) -> set[str]:
        """The inbox lanes that may have a history of theirs, as `write_back.lua` notes them."""
        named = {("g" if each.is_group else "p") + each.lane for each in records}
        return named | set(self._client.smembers(self._talks))

    def _remembered(self, named: set[str]) -> tuple[set[str], set[str]]:
        """The lanes of conversations of two, and of groups, that have a history."""
        found = {name for name in named if self._client.exists(LaneKeys(name[1:]).history)}
        groups = {name[1:] for name in found if name[0] == "g"}
        return {name[1:] for name in found if name[0] == "p"}, groups

    def _days_used(self) -> int:
        today = int(self._client.time()[0]) // DAY_S
        field = user_field(self._id)
        with self._client.pipeline(transaction=False) as pipe:
            for day in _days_until(today):
                pipe.hexists(self._bot.usage(day), field)
            return sum(map(bool, pipe.execute()))

    def _scan(self, name: str) -> Iterator[list[str]]:
        """The members of a sorted set; none that stays in it meanwhile is missed."""
        cursor = 0
        while True:
            cursor, found = self._client.zscan(name, cursor, count=PAGE)
            yield [member for member, _ in found]
            if not cursor:
                return


def _days_until(today: int) -> range:
    """All days of which use may be known, by the clocks of any zone. today: of Unix time."""
    return range(today - USAGE_DAYS - 1, today + 2)


def _ids(records: Iterable[_Record]) -> list[str]:
    return [each.event_id for each in records]


def _pages(names: Sequence[str]) -> Iterator[list[str]]:
    rest = iter(names)
    while page := list(islice(rest, PAGE)):
        yield page
