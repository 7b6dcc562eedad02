"""One blow at a time, on every pool, in separate and in shared workers; then all of them mixed.

A case that costs a claim can't end sooner than the claim's lease, 15 s. The cases of one pool and
layout share one running stack, one after the other; after a case that leaves work in it the next
one gets a new one. `E2E_SEED` chooses the random moments.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.e2e.checks import (
    Record,
    check_answers,
    check_balance,
    check_logs,
    check_model,
    check_order,
    counters,
)
from tests.e2e.kills import SLACK_S, Crowd, Killer, kept_loaded
from tests.e2e.stack import Stack, Worker
from tests.e2e.talk import Talk

pytestmark = [pytest.mark.e2e, pytest.mark.matrix, pytest.mark.timeout(150)]

SEED = os.environ.get("E2E_SEED", "1")
PEOPLE = 60
ROUNDS = 4
IN_FLIGHT = 200  #: events at every blow, at least
CONVERSATIONS = 50  #: they are in, at least
WRITE_EVERY_S = 3.0
MODEL_S = 0.3
SEND_S = 0.1
RECOVERY_S = 60  #: after the last blow

#: pool → slots for model calls and for sends; a shared worker has as many as both together
SLOTS = {"threads": (32, 16), "gevent": (32, 16), "prefork": (14, 4)}
LAYOUTS = {"separate": ("process", "push"), "shared": ("both",)}
CAUSES = ("ingress", "worker", "redis", "connections", "freeze", "stop")


@dataclass(frozen=True, slots=True)
class Setup:
    """Which pool, in which workers."""

    pool: str
    layout: str

    def __str__(self) -> str:
        return f"{self.pool}-{self.layout}"

    @property
    def names(self) -> tuple[str, ...]:
        return LAYOUTS[self.layout]

    def workers(self) -> list[Worker]:
        process, push = SLOTS[self.pool]
        if self.layout == "shared":
            return [Worker("both", "process,push", self.pool, process + push)]
        return [
            Worker("process", "process", self.pool, process),
            Worker("push", "push", self.pool, push),
        ]

    def victims(self, cause: str) -> list[str]:
        """Whom `cause` hits; every worker where it is about workers."""
        if cause == "mixed":
            causes = [*CAUSES, *(["child"] if self.pool == "prefork" else [])]
            return [victim for each in causes for victim in self.victims(each)]
        redis = {"redis": "redis", "connections": "redis:cut", "freeze": "redis:freeze"}
        if cause in redis:
            return [redis[cause]]
        suffix = {"worker": "", "child": ":child", "stop": ":stop"}
        return ["ingress"] if cause == "ingress" else [name + suffix[cause] for name in self.names]


SETUPS = [Setup(pool, layout) for layout in LAYOUTS for pool in SLOTS]
FORKING = [setup for setup in SETUPS if setup.pool == "prefork"]


class Running:
    """The stack of one setup; a new one when a case left work in the old one or broke it."""

    def __init__(self, start: Callable[[], Stack]) -> None:
        self._start = start
        self._stacks = contextlib.ExitStack()
        self._stack: Stack | None = None

    def clean(self) -> Stack:
        if self._stack is None or not self._is_clean(self._stack):
            self.close()
            self._stack = self._stacks.enter_context(self._start())
        return self._stack

    def close(self) -> None:
        self._stacks.close()

    @staticmethod
    def _is_clean(stack: Stack) -> bool:
        return stack.ready()[0] == 200 and not stack.unfinished_lanes()


@pytest.fixture(scope="module")
def setup(request: pytest.FixtureRequest) -> Setup:
    chosen: Setup = request.param
    return chosen


@pytest.fixture(scope="module")
def running(setup: Setup, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    def start() -> Stack:
        directory = tmp_path_factory.mktemp(str(setup)) / "run"
        return Stack(directory, workers=setup.workers(), keep_alive=True)

    stacks = Running(start)
    yield stacks
    stacks.close()


@pytest.fixture
def stack(running: Running) -> Stack:
    return running.clean()


@pytest.fixture
async def talk(stack: Stack) -> AsyncIterator[Talk]:
    async with stack.client() as client:
        await client.control("reset")
        talk = Talk(stack, client)
        await talk.pace(latency_s=MODEL_S)
        for target in ("feishu.reply", "dingtalk.session"):  # done at once, told late
            await talk.fault(target, "slow", delay_s=SEND_S, times=0)
        yield talk


@pytest.mark.parametrize("cause", CAUSES)
@pytest.mark.parametrize("setup", SETUPS, indirect=True, ids=str, scope="module")
async def test_a_blow_loses_doubles_and_disorders_nothing(
    talk: Talk, setup: Setup, cause: str, record_property: Callable[[str, object], None]
) -> None:
    await _endures(talk, setup, cause, record_property)


@pytest.mark.parametrize("setup", FORKING, indirect=True, ids=str, scope="module")
async def test_a_killed_child_loses_doubles_and_disorders_nothing(
    talk: Talk, setup: Setup, record_property: Callable[[str, object], None]
) -> None:
    await _endures(talk, setup, "child", record_property)


@pytest.mark.parametrize("setup", SETUPS, indirect=True, ids=str, scope="module")
async def test_all_of_it_mixed_loses_doubles_and_disorders_nothing(
    talk: Talk, setup: Setup, record_property: Callable[[str, object], None]
) -> None:
    await _endures(talk, setup, "mixed", record_property)


async def _endures(
    talk: Talk, setup: Setup, cause: str, note: Callable[[str, object], None]
) -> None:
    before = counters(talk.stack)
    crowd = Crowd(talk.client)
    crowd.gather(PEOPLE)

    loaded = kept_loaded(talk.stack, crowd, IN_FLIGHT)
    killer = Killer(talk.stack, seed=f"{SEED} {setup} {cause}", pause_s=0.6, prepare=loaded)
    await crowd.write(ROUNDS)
    stop = asyncio.Event()
    writing = asyncio.create_task(crowd.keep_writing(stop, pause_s=WRITE_EVERY_S))
    await killer.run(setup.victims(cause))
    stop.set()
    last = max(kill.until for kill in killer.kills)
    await writing
    await _hurry(talk, last)
    await talk.at_rest(timeout_s=last + RECOVERY_S - time.time())

    note("rest_s", round(time.time() - last, 1))
    note("events", crowd.events)
    note("in_flight", min(kill.events for kill in killer.kills))
    note("refusals", crowd.refusals)
    note("hung_stops", killer.hung)
    assert not killer.hung, "a worker told to stop didn't"
    assert min(kill.events for kill in killer.kills) >= IN_FLIGHT
    assert min(kill.conversations for kill in killer.kills) >= CONVERSATIONS
    await _check(talk, setup, crowd, killer, before, note)


async def _hurry(talk: Talk, last: float) -> None:
    """What is left after the last blow needs no time of its own: the cases wait for leases only.

    Not before calls and sends that the blow can have cut are over: how many those are is counted.
    """
    await asyncio.sleep(max(0, last + SLACK_S - time.time()))
    await talk.pace(latency_s=0)
    await talk.no_faults()


async def _check(
    talk: Talk,
    setup: Setup,
    crowd: Crowd,
    killer: Killer,
    before: Counter[str],
    note: Callable[[str, object], None],
) -> None:
    check_balance(talk.stack, crowd.events, before)
    record = Record(await talk.client.ledger())
    redis = ("redis", "redis:freeze")
    process, push = SLOTS[setup.pool]
    children = [name + ":child" for name in setup.names]
    if setup.layout == "shared":
        process = push = process + push
    repeats, sends = check_answers(
        record,
        crowd,
        killer.of(setup.names[-1], *redis),
        push,
        send_s=SEND_S,
        children=len(killer.of(children[-1])),
    )
    note("repeats", repeats)
    note("sends_cut_at_most", sends)
    again, calls = check_model(
        record,
        crowd.events,
        killer.of(setup.names[0], *redis),
        process,
        children=len(killer.of(children[0])),
    )
    note("model_again", again)
    note("calls_cut_at_most", calls)
    check_order(record, crowd)
    check_logs(talk.stack)
