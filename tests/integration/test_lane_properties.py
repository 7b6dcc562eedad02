"""Random lives of lanes on a real Redis, against a model, with every reply lost now and then.

Every run is the same unless `LANE_RUNS=<number>` asks for so many others; then
`--hypothesis-seed=<number>` chooses which.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from shared.state import keys
from shared.state.keys import LaneKeys
from tests.integration.lane_machine import (
    BOTS,
    CONVERSATIONS,
    HINT_GRACE_MS,
    HOUR_MS,
    QUOTAS,
    USED,
    World,
)
from tests.integration.lane_model import CONVERSATION_CAPACITY
from tests.integration.lane_parts import Lane
from tests.integration.lane_worker import Worker
from tests.redis_server import RedisServer
from workers.claim import Claim

LANE_RUNS = int(os.environ.get("LANE_RUNS", "0"))
PROFILE = settings(
    max_examples=LANE_RUNS or 40,
    stateful_step_count=60,
    derandomize=not LANE_RUNS,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    report_multiple_bugs=False,
    deadline=None,
    print_blob=bool(LANE_RUNS),
    suppress_health_check=list(HealthCheck),
)
DRAIN_ROUNDS = 200
QUEUE = st.sampled_from(["process", "push"])
HINT_FATE = st.sampled_from(["claim", "claim", "claim", "lost", "put back"])
WORKER = st.integers(0, 1)
PICK = st.integers(0, 30)
LANES = [
    name
    for bot, conversation in CONVERSATIONS
    for name in (bot.inbox(conversation), LaneKeys(bot.inbox(conversation)).outbox)
]


class LaneMachine(RuleBasedStateMachine):
    """Acts of ingress, broker, workers, operator and time, in any order."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__()
        self.world = World(client)
        self.is_sound = False

    def begin(self, twice: bool = False) -> World:
        self.is_sound = False
        self.world.twice = twice
        return self.world

    def pick_claim(self, number: int, suits: Callable[[Claim], bool]) -> tuple[Worker, Claim]:
        """The newest claims first: they are the ones that can still do something."""
        claims = [each for each in self.world.claims if suits(each[1])]
        return claims[-1 - number % len(claims)]

    def has_claim(self, suits: Callable[[Claim], bool]) -> bool:
        return any(suits(claim) for _, claim in self.world.claims)

    # The ingress

    @precondition(lambda self: self.entries() < 2 * CONVERSATION_CAPACITY)
    @rule(
        where=st.lists(st.sampled_from(CONVERSATIONS), min_size=1, max_size=4),
        redelivered=st.none() | st.tuples(PICK, st.booleans()),
        is_waiting=st.booleans(),
        twice=st.booleans(),
    )
    def accept(self, where: list[Any], redelivered: Any, is_waiting: bool, twice: bool) -> None:
        world = self.begin(twice)
        events = [world.new_event(*each) for each in where]
        if redelivered:
            number, is_same_message = redelivered
            event = world.events[number % len(world.events)]
            events.append(event if is_same_message else world.new_message(event))
        world.accept(*events, is_waiting=is_waiting)

    def entries(self) -> int:
        return sum(len(lane.entries) for lane in self.world.model.lanes.values())

    # The broker and the workers

    @precondition(lambda self: self.world.model.lives)
    @rule(queue=QUEUE, times=st.integers(1, 3), go_on=st.booleans(), twice=st.booleans())
    def work(self, queue: str, times: int, go_on: bool, twice: bool) -> None:
        """As a healthy worker does."""
        world = self.begin(twice)
        for _ in range(times):
            if hint := world.take_hint(queue):
                run_task(world, *hint, go_on=go_on)

    @precondition(lambda self: self.world.model.lives)
    @rule(queue=QUEUE, times=st.integers(1, 3), fate=HINT_FATE, worker=WORKER, twice=st.booleans())
    def take_hints(self, queue: str, times: int, fate: str, worker: int, twice: bool) -> None:
        world = self.begin(twice)
        for _ in range(times):
            hint = world.take_hint(queue, put_back=fate == "put back")
            if hint and fate == "claim":
                world.claim(world.workers[worker], *hint)

    @precondition(lambda self: self.world.hints)
    @rule(number=PICK, worker=WORKER, twice=st.booleans())
    def run_an_old_hint_again(self, number: int, worker: int, twice: bool) -> None:
        world = self.begin(twice)
        world.claim(world.workers[worker], *world.hints[-1 - number % len(world.hints)])

    @precondition(lambda self: self.free_lanes())
    @rule(number=PICK, deaths=st.integers(0, 6), twice=st.booleans())
    def claim_and_die_repeatedly(self, number: int, deaths: int, twice: bool) -> None:
        """Each time another worker claims the lane; the last one lives."""
        world = self.begin(twice)
        lanes = self.free_lanes()
        lane = lanes[number % len(lanes)]
        claim = world.claim(world.workers[0], lane, 1)
        for life in range(deaths):
            if claim is None:
                return
            world.lapse(claim)
            claim = world.claim(world.workers[life % 2], lane, 1)

    def free_lanes(self) -> list[str]:
        lanes = self.world.model.lanes.values()
        return [lane.name for lane in lanes if lane.entries and not lane.head.is_live]

    @precondition(lambda self: self.has_claim(self.world.model.holds))
    @rule(numbers=st.lists(PICK, min_size=1, max_size=4, unique=True), twice=st.booleans())
    def renew(self, numbers: list[int], twice: bool) -> None:
        world = self.begin(twice)
        picked = {self.pick_claim(n, lambda _: True)[1].id for n in numbers}
        claims = [claim for _, claim in world.claims if claim.id in picked]
        world.renew(world.workers[0], claims)

    @precondition(lambda self: self.has_claim(is_work))
    @rule(number=PICK, parts=st.integers(1, 3), go_on=st.booleans(), twice=st.booleans())
    def write_back(self, number: int, parts: int, go_on: bool, twice: bool) -> None:
        worker, claim = self.pick_claim(number, is_work)
        texts = tuple(f"part {n}" for n in range(parts))
        self.begin(twice).write_back(worker, claim, texts, go_on=go_on)

    @precondition(lambda self: self.has_claim(is_work))
    @rule(number=PICK, tokens=st.integers(0, 99), twice=st.booleans())
    def admit(self, number: int, tokens: int, twice: bool) -> None:
        worker, claim = self.pick_claim(number, is_work)
        self.begin(twice).admit(worker, claim, tokens)

    @precondition(lambda self: self.has_claim(is_work))
    @rule(number=PICK, go_on=st.booleans(), twice=st.booleans())
    def reject(self, number: int, go_on: bool, twice: bool) -> None:
        worker, claim = self.pick_claim(number, is_work)
        self.begin(twice).reject(worker, claim, go_on=go_on)

    @precondition(lambda self: self.has_claim(is_delivery))
    @rule(number=PICK, go_on=st.booleans(), twice=st.booleans())
    def deliver(self, number: int, go_on: bool, twice: bool) -> None:
        worker, claim = self.pick_claim(number, is_delivery)
        world = self.begin(twice)
        if world.model.holds(claim):
            world.show(claim)
        world.settle(worker, claim, go_on=go_on)

    @precondition(lambda self: self.has_claim(is_delivery))
    @rule(number=PICK)
    def deliver_and_die(self, number: int) -> None:
        _, claim = self.pick_claim(number, is_delivery)
        world = self.begin()
        if world.model.holds(claim):
            world.show(claim)
            world.lapse(claim)

    @precondition(lambda self: self.has_claim(is_healthy))
    @rule(number=PICK, waits=st.booleans(), is_unsure=st.booleans(), twice=st.booleans())
    def retry(self, number: int, waits: bool, is_unsure: bool, twice: bool) -> None:
        worker, claim = self.pick_claim(number, is_healthy)
        self.begin(twice).retry(worker, claim, waits=waits, is_unsure=is_unsure)

    @precondition(lambda self: self.has_claim(is_question))
    @rule(number=PICK, twice=st.booleans())
    def postpone(self, number: int, twice: bool) -> None:
        worker, claim = self.pick_claim(number, is_question)
        self.begin(twice).postpone(worker, claim)

    @precondition(lambda self: self.world.claims)
    @rule(number=PICK, wants_notice=st.booleans(), is_unsure=st.booleans(), twice=st.booleans())
    def bury(self, number: int, wants_notice: bool, is_unsure: bool, twice: bool) -> None:
        worker, claim = self.pick_claim(number, lambda _: True)
        self.begin(twice).bury(worker, claim, wants_notice=wants_notice, is_unsure=is_unsure)

    @precondition(lambda self: self.world.calls)
    @rule(number=PICK)
    def repeat_late(self, number: int) -> None:
        self.begin().repeat_late(number)

    @precondition(lambda self: self.world.claims)
    @rule(number=WORKER)
    def stop_worker(self, number: int) -> None:
        self.begin().stop_worker(number)

    # The operator

    @precondition(lambda self: self.has_letters())
    @rule(number=PICK, twice=st.booleans())
    def replay(self, number: int, twice: bool) -> None:
        world = self.begin(twice)
        world.replay(self.pick_lives(number)[0].event)

    @precondition(lambda self: self.has_letters())
    @rule(number=PICK, how_many=st.integers(1, 3), twice=st.booleans())
    def drop(self, number: int, how_many: int, twice: bool) -> None:
        world = self.begin(twice)
        lives = self.pick_lives(number)
        ids = [each.event.trace_id for each in lives if each.bot == lives[0].bot]
        world.drop(lives[0].bot, ids[:how_many])

    @precondition(lambda self: self.world.model.lives)
    @rule(number=PICK, how_many=st.integers(1, 3), twice=st.booleans())
    def cancel(self, number: int, how_many: int, twice: bool) -> None:
        world = self.begin(twice)
        lives = list(world.model.lives.values())
        newest = lives[-1 - number % len(lives) :]
        ids = [each.event.trace_id for each in newest if each.bot == newest[0].bot]
        world.cancel(newest[0].bot, ids[:how_many])

    def has_letters(self) -> bool:
        return any(life.has_died for life in self.world.model.lives.values())

    def pick_lives(self, number: int) -> list[Any]:
        """Mostly the dead: all events, these first, from some place on."""
        lives = sorted(self.world.model.lives.values(), key=lambda life: life.place != "dead")
        start = number % (2 * len(lives)) - len(lives)
        return [lives[start]] if start > 0 else lives

    # The time

    @precondition(lambda self: self.has_claim(self.world.model.holds))
    @rule(number=PICK)
    def lapse(self, number: int) -> None:
        _, claim = self.pick_claim(number, self.world.model.holds)
        self.begin().lapse(claim)

    @precondition(lambda self: self.suspects())
    @rule(number=PICK, other=st.none() | PICK, twice=st.booleans())
    def stall_in_a_turn(self, number: int, other: int | None, twice: bool) -> None:
        """The claim lapses, another suspect may begin its turn, and the worker is back."""
        suspects = self.suspects()
        worker, claim = suspects[number % len(suspects)]
        world = self.begin(twice)
        world.lapse(claim)
        lanes = [name for name in self.free_lanes() if name != claim.lane]
        if other is not None and lanes:
            self.claim_and_die_repeatedly(other, 2, twice)
        world.renew(worker, [claim])

    def suspects(self) -> list[tuple[Worker, Claim]]:
        """Who works on a head in its own turn."""
        model = self.world.model
        held = [each for each in self.world.claims if model.holds(each[1])]
        return [each for each in held if model.lane(each[1].lane).head.is_turn]

    @precondition(lambda self: any(lane.head.waits for lane in self.world.model.lanes.values()))
    @rule(number=PICK)
    def end_wait(self, number: int) -> None:
        waiting = [lane for lane in self.world.model.lanes.values() if lane.head.waits]
        self.begin().end_wait(waiting[number % len(waiting)])

    @precondition(lambda self: self.limits_something())
    @rule()
    def pass_a_minute(self) -> None:
        self.begin().pass_a_minute()
        self.end_abandoned_turn()

    def limits_something(self) -> bool:
        model = self.world.model
        return bool(model.noticed or model.told or model.turn)

    def end_abandoned_turn(self) -> None:
        """A turn whose head was taken away (its letter was dropped) ends with its time."""
        world = self.world
        for _, claim in world.claims:
            if not world.model.holds(claim):
                world.end_turn(claim)

    @precondition(lambda self: self.world.model.lives)
    @rule(lanes=st.lists(st.sampled_from(LANES), min_size=1), worker=WORKER, twice=st.booleans())
    def sweep(self, lanes: list[str], worker: int, twice: bool) -> None:
        world = self.begin(twice)
        world.sweep(world.workers[worker], lanes)

    @precondition(lambda self: any(life.is_waiting for life in self.world.model.lives.values()))
    @rule(numbers=st.lists(PICK, min_size=1, max_size=4), worker=WORKER, twice=st.booleans())
    def tell_waiting(self, numbers: list[int], worker: int, twice: bool) -> None:
        world = self.begin(twice)
        events = [world.events[-1 - number % len(world.events)] for number in numbers]
        world.tell_waiting(world.workers[worker], events)

    @precondition(lambda self: self.has_claim(lambda claim: claim.is_working_notice))
    @rule(number=PICK, twice=st.booleans())
    def answer_while_it_is_told(self, number: int, twice: bool) -> None:
        """The reply is there before the word is said: nobody may send it yet."""
        _, word = self.pick_claim(number, lambda claim: claim.is_working_notice)
        world = self.begin(twice)
        claim = world.claim(world.workers[1], f"{word.keys.conversation}:inbox", 1)
        if claim is not None and is_healthy(claim):
            world.write_back(world.workers[1], claim, ("answer",))
        world.claim(world.workers[0], word.lane, 1)

    # What holds after every act

    @invariant()
    def everything_is_as_the_model_says(self) -> None:
        world = self.world
        now, content = world.dump()
        check_lanes(world, content)
        check_due_index(world, content, now)
        check_records(world, content)
        check_conservation(world, content)
        check_what_is_counted(world, content)
        check_order_of_what_is_shown(world)
        self.is_sound = True

    def teardown(self) -> None:
        if self.is_sound:
            Drain(self).run()


class Drain:
    """The end of every run: what is left is found through sweeper and hints, and finished."""

    def __init__(self, machine: LaneMachine) -> None:
        self.machine = machine
        self.world = machine.begin()

    def run(self) -> None:
        for _ in range(DRAIN_ROUNDS):
            if not self.world.client.zcard(keys.DUE):
                break
            self._round()
            self.machine.everything_is_as_the_model_says()
        world = self.world
        content = world.snapshot()
        left = [key for key in content if ":conv:" in key and not key.endswith("history")]
        assert [key for key in left if not key.endswith(("noticed", "told"))] == []
        assert not {keys.DUE, keys.SUSPECT, keys.SUSPECTS, keys.WAITING} & content.keys()
        places = {life.place for life in world.model.lives.values()}
        assert places <= {"answered", "rejected", "cancelled", "dead", "dropped"}

    def _round(self) -> None:
        world = self.world
        world.pass_a_minute()
        self.machine.end_abandoned_turn()
        for lane in world.model.lanes.values():
            if lane.head.is_live:
                world.lapse(lane.head.claim)
            if lane.head.waits:
                world.end_wait(lane)
        world.sweep(world.workers[0], LANES)
        for queue in ("process", "push"):
            while hint := world.take_hint(queue):
                run_task(world, *hint, go_on=False)


def run_task(world: World, lane: str, seq: int, *, go_on: bool) -> None:
    """Everything that one hint leads to, without trouble."""
    worker = world.workers[seq % 2]
    claim = world.claim(worker, lane, seq)
    while claim is not None:
        if claim.is_poison or is_told_again(claim):
            claim = world.bury(worker, claim, wants_notice=True)
        elif is_work(claim):
            claim = world.write_back(worker, claim, ("answer",), go_on=go_on)
        else:
            world.show(claim)
            claim = world.settle(worker, claim, go_on=go_on)


def is_healthy(claim: Claim) -> bool:
    return not claim.is_poison


def is_work(claim: Claim) -> bool:
    return is_healthy(claim) and claim.lane.endswith(":inbox")


def is_question(claim: Claim) -> bool:
    return is_healthy(claim) and claim.lane.endswith(":inbox")


def is_delivery(claim: Claim) -> bool:
    return is_healthy(claim) and claim.lane.endswith(":outbox") and not is_told_again(claim)


def is_told_again(claim: Claim) -> bool:
    """A word that is perhaps said already: a worker gives it up."""
    return claim.is_working_notice and claim.attempt > 1


def check_lanes(world: World, content: dict[str, Any]) -> None:
    """Every lane's entries, in order, and at most one live claim: the right one."""
    suffixes = (":inbox", ":outbox")
    found = {key: value for key, value in content.items() if key.endswith(suffixes)}
    lanes = {name: lane for name, lane in world.model.lanes.items() if lane.entries}
    assert found == {name: lane.entries for name, lane in lanes.items()}
    states = {key for key in content if key.endswith(":state")}
    assert states == {LaneKeys(name).state for name in lanes}
    for lane in lanes.values():
        check_state(lane, content[LaneKeys(lane.name).state])
    turn = world.model.turn
    assert content.get(keys.SUSPECT) == (" ".join(turn) if turn else None)
    assert set(content.get(keys.SUSPECTS, ())) <= set(lanes)


def check_state(lane: Lane, state: dict[str, str]) -> None:
    head = lane.head
    assert state.get("claim") == (head.claim.id if head.claim else None)
    assert state.get("turn", "0") == str(int(head.is_turn))
    assert int(state.get("tries", 0)) == head.tries
    assert (int(state.get("losses", 0)), int(state.get("own_losses", 0))) == (
        head.losses,
        head.own_losses,
    )


def check_due_index(world: World, content: dict[str, Any], now: int) -> None:
    """Nothing unfinished outside, nothing finished inside, nobody looks later than needed."""
    due = {lane: float(score) for lane, score in content.get(keys.DUE, {}).items()}
    assert set(due) == {name for name, lane in world.model.lanes.items() if lane.entries}
    for lane, score in due.items():
        state = content[LaneKeys(lane).state]
        latest = max(float(state.get(name, 0)) for name in ("lease", "retry"))
        grace = HOUR_MS if lane in content.get(keys.SUSPECTS, ()) else HINT_GRACE_MS
        assert score <= max(latest, now + grace), lane
        if world.model.lane(lane).head.is_live:
            assert score <= float(state["lease"])


def check_records(world: World, content: dict[str, Any]) -> None:
    """A finished event is a line that says how it ended; any other keeps its record."""
    for trace_id, life in world.model.lives.items():
        record = content[life.bot.event(trace_id)]
        assert isinstance(record, dict) == life.is_record
        if not life.is_record:
            assert record[0] == life.place[0]
            continue
        assert ("dead" in record) == (life.place == "dead")
        assert ("notice" in record) == life.has_notice
        assert ("unsure" in record) == life.is_unsure
        assert int(record.get("next_part", 0)) == life.next_part
        assert life.written_back <= 1
    lives = world.model.lives.items()
    waiting = {life.bot.event(trace_id) for trace_id, life in lives if life.is_waiting}
    assert set(content.get(keys.WAITING, ())) == waiting
    for bot in BOTS:
        dead = {name for name, life in lives if (life.bot, life.place) == (bot, "dead")}
        assert set(content.get(bot.dead, ())) == dead


def check_conservation(world: World, content: dict[str, Any]) -> None:
    """By the walk, which goes through the due index, and by looking at every key."""
    for bot, census in zip(BOTS, world.census(), strict=True):
        assert census.imbalance == 0
        lives = [life for life in world.model.lives.values() if life.bot == bot]
        assert census.in_flight == sum(life.place in ("inbox", "outbox") for life in lives)
        counts = {n: int(count) for n, count in content.get(bot.counts, {}).items() if int(count)}
        expected = {n: count for (p, n), count in world.model.counts.items() if p == bot.prefix}
        assert counts == {name: count for name, count in expected.items() if count}


def check_what_is_counted(world: World, content: dict[str, Any]) -> None:
    """Usage: each answer once. Quota: each admitted event once, by what it holds at last."""
    for bot in BOTS:
        lives = [life for life in world.model.lives.values() if life.bot == bot]
        used = USED[bot]
        written = sum(life.written_back for life in lives)
        expected = [written, used.prompt_tokens * written, used.completion_tokens * written]
        days = [value for key, value in content.items() if key.startswith(f"{bot.prefix}:usage:")]
        for field in used.fields():
            sums = [[int(n) for n in day.get(field, "0 0 0").split()] for day in days]
            assert [sum(each) for each in zip(*sums, strict=True)] == (expected if written else [])
        admitted = [life.reserved for life in lives if life.reserved is not None]
        (quota,) = QUOTAS[bot]
        counted = content.get(quota, {})
        days = [used.split() for window, used in counted.items() if window.startswith("d")]
        assert sum(int(requests) for requests, _ in days) == len(admitted)
        assert sum(int(tokens) for _, tokens in days) == sum(admitted)


def check_order_of_what_is_shown(world: World) -> None:
    """First sights: parts in order, and events as accepted unless they died in between."""
    first = list(dict.fromkeys(world.shown))
    order = {trace_id: number for number, trace_id in enumerate(world.model.lives)}
    for inbox in LANES[::2]:
        mine = [each for each in first if world.model.lives[each[0]].inbox == inbox]
        lived = [each for each in mine if not world.model.lives[each[0]].has_died]
        assert lived == sorted(lived, key=lambda each: (order[each[0]], each[1]))
        for (one, part), (other, next_part) in pairwise(mine):
            assert one != other or next_part == part + 1


@pytest.fixture
def quick_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    """A server of its own that writes no file: nothing here is about surviving its end."""
    directory = tmp_path_factory.mktemp("quick_redis")
    with RedisServer(directory, "--appendonly", "no") as server, server.client() as client:
        yield client


@pytest.mark.timeout(600 if not LANE_RUNS else 0)  # a failure is made small before it is shown
def test_whatever_happens_in_whatever_order_lanes_keep_their_promises(
    quick_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.store.LEASE_MS", HOUR_MS)
    monkeypatch.setattr("workers.store.NOTICE_INTERVAL_MS", HOUR_MS)

    run_state_machine_as_test(lambda: LaneMachine(quick_redis), settings=PROFILE)


def test_a_write_back_repeated_after_the_answer_went_out_brings_the_next_claim_again(
    redis_client: redis.Redis,
) -> None:
    world = World(redis_client)
    world.accept(*(world.new_event(*each) for each in CONVERSATIONS[:2]))
    claim = world.claim(world.workers[0], *(world.take_hint("process") or ("", 0)))
    assert claim is not None
    following = world.write_back(world.workers[0], claim, ("answer",), go_on=True)
    assert following is not None
    run_task(world, *(world.take_hint("push") or ("", 0)), go_on=False)
    assert world.model.life(claim.head).place == "answered"

    world.repeat_late(0)  # or the lane would stand still until the end of a lease


def test_a_notice_settled_twice_after_its_letter_was_dropped_is_no_lost_claim(
    redis_client: redis.Redis,
) -> None:
    world = World(redis_client)
    world.accept(world.new_event(*CONVERSATIONS[0]))
    claim = world.claim(world.workers[0], *(world.take_hint("process") or ("", 0)))
    assert claim is not None
    world.bury(world.workers[0], claim, wants_notice=True)
    notice = world.claim(world.workers[0], *(world.take_hint("push") or ("", 0)))
    assert notice is not None
    world.drop(BOTS[0], [claim.head])

    world.twice = True
    world.settle(world.workers[0], notice)
