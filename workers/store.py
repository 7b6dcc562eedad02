"""Lanes as the workers see them: every call is one Lua script, safe to send twice.

Scripts get `KEYS` and `ARGV` as `lua/_lane.lua` lays down. Times are Redis's own, in ms.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Literal

import backoff
import redis
from celery.exceptions import SoftTimeLimitExceeded
from redis.exceptions import (
    ConnectionError,
    MasterDownError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
)

from shared.errors import ClaimLostError
from shared.messages import Reply
from shared.state import keys
from shared.state.keys import BotKeys, LaneKeys
from shared.state.scripts import script
from workers.claim import STOP, Claim, GoOn, Wish, claim_of
from workers.redis_time import RedisTime
from workers.usage import Usage

LEASE_MS = 15_000
PATIENCE_S = 20.0  #: an outcome is worth waiting for a Redis that restarts
CLAIM_PATIENCE_S = 10.0  #: a claim that was taken but not told would cost its lease
#: A claim is not taken later than this after it was asked for. Shorter than the time from a claim
#: to Celery's limits, which end who asked.
CLAIM_VALID_MS = 5000
NOTICE_INTERVAL_MS = 60_000  #: a conversation gets at most one notice of a kind in this time

Replayed = Literal["ok", "not_dead", "no_text"]

_AWAY = (ConnectionError, TimeoutError, ReadOnlyError, MasterDownError)
#: No write just now: replicas or the disk can't follow, a script runs for long.
_BUSY = ("NOREPLICAS ", "MISCONF ", "BUSY ")


def _stays(error: Exception) -> bool:
    """Whether a refusal would be the same in a moment."""
    return not isinstance(error, _AWAY) and not str(error).startswith(_BUSY)


#: Repeats while Redis is away, is a replica, or takes no writes for the moment.
repeated = partial(
    backoff.on_exception,
    backoff.expo,
    (*_AWAY, ResponseError),
    giveup=_stays,
    factor=0.1,
    max_value=1,
    logger=None,
)


class Lanes:
    """The scripts of one process. `owner`: `<worker's name>/<mark of its start>`."""

    def __init__(self, client: redis.Redis, *, owner: str, templates: tuple[str, str]) -> None:
        self._client = client
        self._owner = owner
        self._templates = templates
        self._scripts: dict[str, Any] = {}
        self._time = RedisTime()

    def claim(self, lane: str, seq: int, *, history_entries: int = 0) -> Claim | None:
        """The lane's head, ours for the lease; None when there is nothing to do here now."""
        wish = Wish.of(GoOn(wanted=True, history_entries=history_entries))
        return self._read_claim(wish, self._claim(lane, seq, wish))

    def renew(self, claims: Sequence[Claim]) -> list[bool]:
        """Extend the leases, in one call; False where the claim is gone."""
        answer = self._run("renew", [c.lane for c in claims], [LEASE_MS, *(c.id for c in claims)])
        return [held == 1 for held in answer]

    def write_back(
        self,
        claim: Claim,
        reply: Reply,
        turns: Sequence[str],
        *,
        usage: Usage | None,
        keep: int,
        ttl_s: int,
        writer_ttl_s: int = 0,
        go_on: GoOn = STOP,
    ) -> Claim | None:
        """Store the reply and hand it to the outbox; remember `turns`, keeping `keep` entries.

        writer_ttl_s: how long the writer's conversations are known; less than `ttl_s`: as long.
        `usage` is counted, and takes the place of what was reserved for the event; of a rehearsal
        there is none.

        Returns the claim to go on with, if that was asked for and there is work.

        Raises:
            ClaimLostError: somebody else claimed the head; nothing was written.
        """
        wish = Wish.of(go_on)
        names = [claim.lane, claim.keys.outbox, claim.event_key, claim.keys.history]
        args = [claim.id, claim.event_id, reply.to_wire(), keep, ttl_s, *self._told(wish)]
        if usage and usage.consumers.user:
            names.append(claim.keys.bot.talks(usage.consumers.user))
        given = [*args, *_used(usage, max(ttl_s, writer_ttl_s)), *turns]
        return self._read_next(wish, self._checked("write_back", names, given))

    def admit(
        self,
        claim: Claim,
        limits: Mapping[str, Sequence[int]],
        *,
        tokens: int,
        offset_s: int,
        is_exempt: bool = False,
    ) -> list[int]:
        """Count the event for its consumers, by key, each with its limits as `quota.lua` has them.

        Returns nothing, or what it may not pass: number of the consumer and of the limit (from 1),
        seconds until it is free again. Raises: as `write_back`.
        """
        args = [claim.id, tokens, offset_s, int(not is_exempt)]
        args += [limit for each in limits.values() for limit in each]
        answer = self._checked("quota", [claim.lane, claim.event_key, *limits], args)
        return [int(word) for word in answer.split()[1:]]

    def reject(self, claim: Claim, why: str, notice: Reply, *, go_on: GoOn = STOP) -> Claim | None:
        """End the event without an answer; `notice` says so unless one went out a minute ago.

        Returns and raises: as `write_back`.
        """
        wish, bot = Wish.of(go_on), claim.keys.bot
        names = [claim.lane, claim.keys.outbox, claim.event_key, bot.counts, claim.keys.noticed]
        args = [claim.id, claim.event_id, why, notice.to_wire(), NOTICE_INTERVAL_MS]
        return self._read_next(wish, self._checked("reject", names, [*args, *self._told(wish)]))

    def settle(
        self, claim: Claim, *, next_part: int, parts: int, route: str = "", go_on: GoOn = STOP
    ) -> Claim | None:
        """Record a part that went out by `route`; the last one finishes the event.

        Returns and raises: as `write_back`.
        """
        wish = Wish.of(go_on)
        names = [claim.lane, claim.event_key, claim.keys.bot.counts]
        args = [claim.id, claim.head, next_part, parts, *self._told(wish), route]
        return self._read_next(wish, self._checked("settle", names, args))

    def retry(
        self,
        claim: Claim,
        wait_s: float,
        why: str,
        *,
        unsure: bool = False,
        is_attempt: bool = True,
    ) -> None:
        """Give the head back, to be tried again after `wait_s`. It keeps its place.

        unsure: nobody knows whether a send happened. is_attempt: False, if it did not even begin.

        Raises:
            ClaimLostError: as for `write_back`.
        """
        args = [claim.id, max(0, int(wait_s * 1000)), why, int(unsure), int(not is_attempt)]
        self._checked("retry", [claim.lane, claim.event_key], args)

    def bury(self, claim: Claim, why: str, notice: Reply | None, *, unsure: bool = False) -> None:
        """Make the head a dead letter, and queue `notice` unless one went out a minute ago.

        unsure: as for `retry`; a replay knows of it.

        Raises:
            ClaimLostError: as for `write_back`.
        """
        bot = claim.keys.bot
        names = [claim.lane, claim.event_key, bot.counts, bot.dead, claim.keys.noticed]
        wire = notice.to_wire() if notice else ""
        self._checked(
            "bury", names, [claim.id, claim.head, why, wire, NOTICE_INTERVAL_MS, int(unsure)]
        )

    def sweep(self, *, lease_ms: int, limit: int) -> tuple[int, int] | None:
        """Look at due lanes: (looked at, hints repeated); None while another worker sweeps."""
        answer = self._run("sweep", [keys.SWEEPER], [lease_ms, limit])
        return None if answer[0] < 0 else (answer[0], answer[1])

    def tell_waiting(self, *, limit: int) -> tuple[int, int]:
        """Queue the notices that are due: (events looked at, notices queued).

        A conversation gets one a minute; who is due in between is looked at after that.
        """
        looked_at, queued = self._run("tell_waiting", [keys.WAITING], [limit, NOTICE_INTERVAL_MS])
        return looked_at, queued

    def put_off_notice(self, claim: Claim, wait_s: float) -> None:
        """No word that it takes longer before `wait_s` after the claim: the answer has begun.

        If that answer is lost with its worker, the notice comes then. Nothing happens to a person
        who was told, or is answered.
        """
        until_ms = claim.now_ms + int(wait_s * 1000)
        self._client.zadd(keys.WAITING, {claim.event_key: until_ms}, xx=True, gt=True)

    def replay(self, bot: BotKeys, event_id: str) -> Replayed:
        """Put a dead letter at its lane's tail again, if it is one and still has its text."""
        names = [bot.event(event_id), bot.counts, bot.dead]
        answer: Replayed = self._run("replay", names, [event_id, _call_id()])
        return answer

    def drop(self, bot: BotKeys, event_ids: Sequence[str]) -> int:
        """Forget dead letters; how many there were."""
        ids = list(dict.fromkeys(event_ids))
        names = [bot.counts, bot.dead, *map(bot.event, ids)]
        return int(self._run("drop", names, [_call_id(), *ids]))

    def remove_texts(self, bot: BotKeys, event_ids: Sequence[str]) -> int:
        """Dead letters lose what was written; how many had it."""
        names = [bot.dead, *map(bot.event, event_ids)]
        return int(self._run("remove_texts", names, [_call_id(), *event_ids]))

    def cancel(self, bot: BotKeys, event_ids: Sequence[str]) -> int:
        """End unfinished events without an answer; how many there were."""
        ids = list(dict.fromkeys(event_ids))
        names = [bot.counts, *map(bot.event, ids)]
        return int(self._run("cancel", names, [_call_id(), *ids]))

    def forget(self, inbox: LaneKeys) -> int:
        """Forget what was said in a conversation; how many entries (of questions, answers)."""
        forget = self._client.register_script(script("forget"))
        return int(forget(keys=[inbox.lane, inbox.state, inbox.history]))

    def forget_use(self, bot: BotKeys, consumer: str, others: str, days: Iterable[int]) -> int:
        """Add what `consumer` used to that of `others`, by the day; on how many days."""
        forget = self._client.register_script(script("usage_forget"))
        return int(forget(keys=[bot.usage(day) for day in days], args=[consumer, others]))

    def count(self, bot: BotKeys, what: str) -> None:
        """Add one to a counter that is not part of the conservation equation.

        A Redis that is full or away costs the count, not the attempt that it stands beside.
        """
        with suppress(RedisError):
            self._client.hincrby(bot.counts, what, 1)

    def mark_stopping(self) -> None:
        """Claims of this worker that are lost from now on don't count as losses."""
        self._client.set(keys.STOPPING_PREFIX + self._owner, 1, ex=3600)

    @repeated(max_time=CLAIM_PATIENCE_S)
    def _claim(self, lane: str, seq: int, wish: Wish) -> Any:
        """Asked again with the same id: what Redis did before it went away is not lost."""
        return self._run("claim", [lane], [seq, *self._told(wish)])

    def _checked(self, name: str, names: Sequence[str], args: Sequence[Any]) -> Any:
        try:
            answer = self._until_done(name, names, args)
        except SoftTimeLimitExceeded as error:
            # The attempt succeeded: it must not be told to fail, while a frozen Redis may still
            # have this very call before it.
            raise TimeoutError(f"{name}: Redis was silent until Celery's limit") from error
        if answer in ("lost", ["lost"]):
            raise ClaimLostError(f"{name}: the claim on {names[0]} is gone")
        return answer

    @repeated(max_time=PATIENCE_S)
    def _until_done(self, name: str, names: Sequence[str], args: Sequence[Any]) -> Any:
        return self._run(name, names, args)

    def _told(self, wish: Wish) -> tuple[str, int, int, str, int]:
        """A wish as `_claim.lua` reads it."""
        valid_ms = self._time.after_ms(CLAIM_VALID_MS)
        return wish.claim_id, LEASE_MS, wish.history_entries, keys.STOPPING_PREFIX, valid_ms

    def _read_claim(self, wish: Wish, answer: Sequence[Any]) -> Claim | None:
        if answer[0] == "late":
            self._time.heard(int(answer[1]))
        if answer[0] != "claimed":
            return None
        claim = claim_of(wish, answer)
        self._time.heard(claim.now_ms)
        return claim

    def _read_next(self, wish: Wish, answer: Sequence[Any]) -> Claim | None:
        """The claim beside an 'ok'; Lua's false arrives as None, or not at all."""
        return self._read_claim(wish, answer[1]) if len(answer) > 1 and answer[1] else None

    def _run(self, name: str, names: Sequence[str], args: Sequence[Any]) -> Any:
        if name not in self._scripts:
            self._scripts[name] = self._client.register_script(script(name))
        shared_keys = [keys.DUE, keys.HINTS, keys.SUSPECT, keys.SUSPECTS, keys.ACTIVE]
        return self._scripts[name](
            keys=[*shared_keys, *names], args=[*self._templates, self._owner, *args]
        )


def _call_id() -> str:
    """Marks what a call did that has no claim, so that it is told so when its reply was lost."""
    return secrets.token_urlsafe(9)


def _used(usage: Usage | None, writer_ttl_s: int) -> list[Any]:
    """Usage as `write_back.lua` reads it."""
    if usage is None:
        return [0, 0, 0, "p", writer_ttl_s, 0]
    fields = usage.fields()
    tokens = (usage.prompt_tokens, usage.completion_tokens)
    place = "g" if usage.consumers.group else "p"
    return [usage.offset_s, *tokens, place, writer_ttl_s, len(fields), *fields]
