"""The lanes on a real Redis beside their model: every act is done to both and compared."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import redis

from shared.errors import ClaimLostError
from shared.messages import Event, Reply, seen_id
from shared.state import keys
from shared.state.census import Census
from shared.state.keys import BotKeys, LaneKeys
from shared.state.scripts import script
from tests.integration.lane_dump import Dump
from tests.integration.lane_model import BOT_CAPACITY, CONVERSATION_CAPACITY, Model
from tests.integration.lane_parts import Expected, Lane
from tests.integration.lane_worker import Worker, popping, queue_of, read_hint
from tests.integration.lanes import TEMPLATES
from workers.claim import Claim, GoOn
from workers.store import Lanes
from workers.usage import Consumers, Usage

BOTS = (BotKeys("feishu", "cli_test"), BotKeys("dingtalk", "ding_test"))
CONVERSATIONS = ((BOTS[0], "oc_1"), (BOTS[0], "oc_2"), (BOTS[1], "cid_1"))
HOUR_MS = 3_600_000  #: leases and retries last that long here: only the tests move the time
HINT_GRACE_MS = 15_000
HINTS_PER_TAKE = 4
NO_LANE = "feishu:cli_test:conv:nobody:inbox"  #: stands in the due index by mistake
NOTICE = Reply(("sorry",), kind="notice")
USED = {bot: Usage(Consumers("u1", "", bot.app_id, ""), 30, 12, offset_s=0) for bot in BOTS}
QUOTAS = {bot: {bot.quota("bot", bot.app_id): (0, 10_000, 0, 0)} for bot in BOTS}
SHARED = [keys.DUE, keys.HINTS, keys.SUSPECT, keys.SUSPECTS, keys.ACTIVE]


class World:
    """An empty Redis, an ingress and two workers."""

    def __init__(self, client: redis.Redis) -> None:
        client.flushall()
        self.client = client
        self.noon_s = 43_200 - client.time()[0] % 86_400  # where it is noon, no day ends soon
        self.model = Model()
        self.twice = False
        self.events: list[Event] = []
        self.claims: list[tuple[Worker, Claim]] = []
        self.calls: list[tuple[Worker, str, Sequence[str], Sequence[Any]]] = []
        self.hints: list[tuple[str, int]] = []
        self.shown: list[tuple[str, int]] = []
        self.told: dict[str, str] = {}
        self._numbers = itertools.count(1)
        self._accept = client.register_script(script("accept"))
        self._walk = client.register_script(script("walk"))
        self.dump = Dump(client)
        self.workers = [self.new_worker(), self.new_worker()]

    def new_worker(self) -> Worker:
        return Worker(self, f"w@host/{next(self._numbers)}")

    def snapshot(self) -> dict[str, Any]:
        """Everything that Redis holds."""
        return self.dump()[1]

    # The ingress

    def new_event(self, bot: BotKeys, conversation: str, event_id: str = "") -> Event:
        number = next(self._numbers)
        event = Event(
            platform=bot.platform,
            app_id=bot.app_id,
            message_id=f"m{number}",
            event_id=event_id or f"e{number}",
            conversation_id=conversation,
            text="hello",
        )
        self.events.append(event)
        return event

    def new_message(self, of: Event) -> Event:
        """Another message that tells of the same event."""
        bot = BotKeys(of.platform, of.app_id)
        return self.new_event(bot, of.conversation_id, of.event_id)

    def accept(self, *events: Event, is_waiting: bool = False) -> None:
        """Send events in one call; each must get the model's answer."""
        names = list(SHARED)
        args: list[Any] = [*TEMPLATES, "ingress", 0, keys.QPS_PREFIX]
        args += [BOT_CAPACITY, CONVERSATION_CAPACITY]
        for event in events:
            bot = BotKeys(event.platform, event.app_id)
            names.append(bot.inbox(event.conversation_id))
            args += [event.trace_id, seen_id(event), event.to_wire(str), HOUR_MS * is_waiting]
        for _ in range(1 + self.twice):
            expected = [self.model.accept(event, is_waiting=is_waiting) for event in events]
            assert self._accept(keys=names, args=args) == expected

    # The broker

    def take_hint(self, queue: str, *, put_back: bool = False) -> tuple[str, int] | None:
        """The oldest hint of a queue. `put_back`: as a broker does whose worker died."""
        message = self.client.rpop(queue)
        if message is None:
            return None
        if put_back:
            self.client.rpush(queue, message)
        self.hints.append(read_hint(message))
        return self.hints[-1]

    # The workers

    def claim(self, worker: Worker, lane: str, seq: int) -> Claim | None:
        expected = self.model.claim(lane, is_stopping=worker.is_stopping)
        claim = worker.claim(lane, seq)
        self._granted(worker, claim, expected)
        return claim

    def _granted(self, worker: Worker, claim: Claim | None, expected: Expected | None) -> None:
        if claim is None or expected is None:
            assert (claim, expected) == (None, None)
            return
        found = (claim.lane, claim.head, claim.attempt, claim.is_poison)
        assert found == (expected.lane, expected.entry, expected.attempt, expected.is_poison)
        if claim.lane.endswith(":outbox"):
            assert (claim.unsure_ms is not None) == expected.is_unsure
            assert claim.is_notice or int(claim.record.get("next_part", 0)) == expected.next_part
        self.model.granted(claim)
        self.claims.append((worker, claim))

    def renew(self, worker: Worker, claims: Sequence[Claim]) -> None:
        assert worker.renew(claims) == [self.model.holds(claim) for claim in claims]
        for claim in filter(self.model.holds, claims):
            self.model.renewed(claim)

    def write_back(
        self, worker: Worker, claim: Claim, parts: tuple[str, ...], *, go_on: bool = False
    ) -> Claim | None:
        def act() -> Claim | None:
            wish = GoOn(wanted=go_on, history_entries=2)
            turns = ["q", claim.head]
            return worker.write_back(
                claim, Reply(parts), turns, usage=used, keep=4, ttl_s=3600, go_on=wish
            )

        used = USED[claim.keys.bot]
        tokens = used.prompt_tokens + used.completion_tokens
        happened = partial(self.model.written_back, claim, parts, tokens)
        return self._end(worker, claim, act, happened, go_on=go_on)

    def admit(self, worker: Worker, claim: Claim, tokens: int) -> None:
        """A quota that nobody ever reaches counts the event."""

        def act() -> list[int]:
            limits = QUOTAS[claim.keys.bot]
            return worker.admit(claim, limits, tokens=tokens, offset_s=self.noon_s)

        if not self.model.holds(claim):
            before = self.snapshot()
            with pytest.raises(ClaimLostError):
                act()
            assert self.snapshot() == before
            return
        assert act() == []
        self.model.admitted(claim, tokens)

    def reject(self, worker: Worker, claim: Claim, *, go_on: bool = False) -> Claim | None:
        def act() -> Claim | None:
            return worker.reject(claim, "quota", NOTICE, go_on=GoOn(wanted=go_on))

        return self._end(worker, claim, act, partial(self.model.rejected, claim), go_on=go_on)

    def show(self, claim: Claim) -> None:
        """The platform takes the next part: from now on the person sees it."""
        if claim.is_working_notice:
            by = self.told.setdefault(claim.event_id, claim.id)
            assert by == claim.id, "it was told twice that it takes longer"
            assert claim.event_id not in dict(self.shown), "that it takes longer, after the answer"
        if not claim.is_notice:
            self.shown.append((claim.head, int(claim.record.get("next_part", 0))))

    def settle(self, worker: Worker, claim: Claim, *, go_on: bool = False) -> Claim | None:
        part, parts = 0, 1
        if not claim.is_notice:
            part = int(claim.record.get("next_part", 0))
            parts = len(Reply.from_wire(claim.record["reply"]).parts)

        def act() -> Claim | None:
            wish = GoOn(wanted=go_on)
            return worker.settle(claim, next_part=part + 1, parts=parts, go_on=wish)

        happened = partial(self.model.settled, claim)
        return self._end(worker, claim, act, happened, go_on=go_on)

    def retry(self, worker: Worker, claim: Claim, *, waits: bool, is_unsure: bool) -> None:
        wait_s = HOUR_MS / 1000 if waits else 0
        act = partial(worker.retry, claim, wait_s, "cut", unsure=is_unsure)
        happened = partial(self.model.given_back, claim, waits=waits, is_unsure=is_unsure)
        self._end(worker, claim, act, happened)

    def postpone(self, worker: Worker, claim: Claim) -> None:
        act = partial(worker.retry, claim, 0, "busy", is_attempt=False)
        happened = partial(self.model.given_back, claim, waits=False, is_attempt=False)
        self._end(worker, claim, act, happened)

    def bury(
        self, worker: Worker, claim: Claim, *, wants_notice: bool, is_unsure: bool = False
    ) -> Claim | None:
        notice = NOTICE if wants_notice and not claim.is_notice else None
        act = partial(worker.bury, claim, "model:401", notice, unsure=is_unsure)
        happened = partial(self.model.buried, claim, wants_notice=wants_notice, is_unsure=is_unsure)
        return self._end(worker, claim, act, happened)

    def _end(
        self,
        worker: Worker,
        claim: Claim,
        act: Callable[[], Claim | None],
        happened: Callable[[], None],
        *,
        go_on: bool = False,
    ) -> Claim | None:
        """A good claim does its act once; a stale one is refused and changes nothing."""
        self.claims = [each for each in self.claims if each[1] is not claim]
        if not self.model.holds(claim):
            before = self.snapshot()
            # A notice whose letter was dropped has nothing left to lose.
            with suppress(ClaimLostError):
                act()
                assert claim.is_notice
                assert not self.model.life(claim.head).is_record
            assert self.snapshot() == before
            return None
        queue = queue_of(claim.lane)
        waiting = [read_hint(message)[0] for message in self.client.lrange(queue, 0, -1)][::-1]
        waiting += [lane for lane in self._called(claim) if queue_of(lane) == queue]
        following = act()
        happened()
        if self.model.lane(claim.lane).entries:
            waiting.append(claim.lane)
        self._granted(worker, following, self._expect_next(worker, waiting) if go_on else None)
        return following

    def _called(self, claim: Claim) -> list[str]:
        """The lane that gets a hint because this claim's turn ends."""
        if self.model.turn != (claim.lane, claim.id):
            return []
        return list(self.client.zrange(keys.SUSPECTS, 0, 0))

    def _expect_next(self, worker: Worker, waiting: list[str]) -> Expected | None:
        """The first of the oldest waiting hints whose lane can be claimed."""
        for lane in itertools.islice(popping(waiting), HINTS_PER_TAKE):
            before = len(self.model.lane(lane).entries)
            expected = self.model.claim(lane, is_stopping=worker.is_stopping)
            if expected:
                return expected
            after = len(self.model.lane(lane).entries)
            waiting += [lane] * (before - after - (after == 0 and before > 0))
        return None

    def repeat_late(self, number: int) -> None:
        """An outcome's script arrives once more, long after: it changes nothing."""
        worker, name, names, args = self.calls[number % len(self.calls)]
        before = self.snapshot()
        answer = Lanes._run(worker, name, names, args)
        assert (answer[0] if isinstance(answer, list) else answer) in ("ok", "lost")
        wish = {"write_back": 5, "settle": 4, "reject": 5}.get(name)
        if wish and any(args[wish] == c.id and self.model.holds(c) for _, c in self.claims):
            assert answer[1][0] == "claimed", "a claim that nobody knows of holds a lane"
        assert self.snapshot() == before

    def stop_worker(self, number: int) -> None:
        """SIGTERM: another one takes its place; what it holds it may still finish."""
        stopped, self.workers[number] = self.workers[number], self.new_worker()
        stopped.mark_stopping()
        stopped.is_stopping = True
        for worker, claim in self.claims:
            if worker is stopped:
                self.model.stopping(claim)

    # The operator

    def replay(self, event: Event) -> None:
        answer = self.workers[0].replay(self.model.life(event.trace_id).bot, event.trace_id)
        assert (answer == "ok") == self.model.replay(event.trace_id)

    def drop(self, bot: BotKeys, event_ids: Sequence[str]) -> None:
        assert self.workers[0].drop(bot, event_ids) == sum(map(self.model.drop, event_ids))

    def cancel(self, bot: BotKeys, event_ids: Sequence[str]) -> None:
        assert self.workers[0].cancel(bot, event_ids) == sum(map(self.model.cancel, event_ids))

    # The time

    def lapse(self, claim: Claim) -> None:
        """15 s passed without a renewal."""
        self.client.hset(LaneKeys(claim.lane).state, "lease", "1")
        self.client.zadd(keys.DUE, {claim.lane: 1})
        self.end_turn(claim)
        self.model.lapsed(claim)

    def end_turn(self, claim: Claim) -> None:
        if self.model.turn == (claim.lane, claim.id):
            self.client.delete(keys.SUSPECT)
            self.model.turn_ended(claim)

    def end_wait(self, lane: Lane) -> None:
        """The time of the head's next try has come."""
        self.client.hset(LaneKeys(lane.name).state, "retry", "1")
        self.client.zadd(keys.DUE, {lane.name: 1})
        lane.head.waits = False

    def pass_a_minute(self) -> None:
        """Conversations may get a notice and a word again; the sweeper's lease ended."""
        noticed = [LaneKeys(f"{each}:inbox").noticed for each in self.model.noticed]
        told = [LaneKeys(f"{each}:inbox").told for each in self.model.told]
        self.client.delete(keys.SWEEPER, *noticed, *told)
        self.model.noticed.clear()
        self.model.told.clear()

    def tell_waiting(self, worker: Worker, events: Sequence[Event]) -> None:
        """The time of these events' notices has come."""
        due = {BotKeys(e.platform, e.app_id).event(e.trace_id): 1 for e in events}
        self.client.zadd(keys.WAITING, due, xx=True)
        known = [e.trace_id for e in events if e.trace_id in self.model.lives]
        assert worker.tell_waiting(limit=200) == self.model.tell_waiting(known)

    def sweep(self, worker: Worker, lanes: Sequence[str]) -> None:
        """The time to look at `lanes` has come; nobody stays due after a sweep."""
        present = [lane for lane in lanes if self.model.lane(lane).entries]
        self.client.zadd(keys.DUE, {**dict.fromkeys(present, 1), NO_LANE: 1})
        before = self.client.llen("process") + self.client.llen("push")
        swept = worker.sweep(lease_ms=HOUR_MS, limit=200)
        if swept is None:
            self.client.zrem(keys.DUE, NO_LANE)
            return
        assert self.client.zcount(keys.DUE, "-inf", 1) == 0
        after = self.client.llen("process") + self.client.llen("push")
        assert swept[0] > len(set(present))
        assert swept[1] == after - before

    def census(self) -> list[Census]:
        found = [Census() for _ in BOTS]
        answer = self._walk(keys=[keys.DUE, *(bot.counts for bot in BOTS)], args=[0, -1])
        for each, walked, counters in zip(found, *answer, strict=True):
            each.add(walked, counters)
        return found
