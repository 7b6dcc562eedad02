"""`kill -9` of everything, in a mixed order, with hundreds of events in flight, on every pool.

What `make test` has of the kill cases; `test_kill_matrix.py` has all of them.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from tests.e2e.checks import (
    Record,
    check_answers,
    check_balance,
    check_logs,
    check_model,
    check_order,
)
from tests.e2e.kills import Crowd, Killer, kept_loaded
from tests.e2e.stack import PROCESS, PUSH, Stack, with_concurrency
from tests.e2e.talk import Talk

pytestmark = [pytest.mark.e2e, pytest.mark.kill, pytest.mark.timeout(240)]

PEOPLE = 52
FIRST_ROUNDS = 6
IN_FLIGHT = 200  #: events at every kill, at least
CONVERSATIONS = 50  #: they are in, at least
PAUSE_S = 1.2  #: between two kills
WRITE_EVERY_S = 4.0
MODEL_S = 1.0
SEND_S = 0.2
RECOVERY_S = 60  #: after the last kill

#: pool → slots of the `process` worker, slots of the `push` worker
SLOTS = {"threads": (48, 16), "gevent": (100, 100), "prefork": (24, 6)}
VICTIMS = ["ingress", "ingress", "redis", "redis", "process", "push"]
CHILDREN = ["process:child", "push:child"]


@pytest.fixture(params=["threads", "gevent", "prefork"])
def pool(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def talk(pool: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Talk]:
    process, push = SLOTS[pool]
    workers = [with_concurrency(PROCESS, pool, process), with_concurrency(PUSH, pool, push)]
    directory = tmp_path_factory.mktemp(pool) / "run"
    with Stack(directory, workers=workers, keep_alive=True) as stack:
        async with stack.client() as client:
            yield Talk(stack, client)


async def test_no_kill_loses_doubles_or_disorders_anything(talk: Talk, pool: str) -> None:
    await talk.pace(latency_s=MODEL_S)
    for target in ("feishu.reply", "dingtalk.session"):  # done at once, told late
        await talk.fault(target, "slow", delay_s=SEND_S, times=0)
    crowd = Crowd(talk.client)
    crowd.gather(PEOPLE)
    loaded = kept_loaded(talk.stack, crowd, IN_FLIGHT)
    killer = Killer(talk.stack, seed=pool, pause_s=PAUSE_S, prepare=loaded)
    await crowd.write(FIRST_ROUNDS)

    stop = asyncio.Event()
    writing = asyncio.create_task(crowd.keep_writing(stop, pause_s=WRITE_EVERY_S))
    await killer.run(VICTIMS + (CHILDREN if pool == "prefork" else []))
    stop.set()
    last = max(kill.until for kill in killer.kills)
    await writing
    await _recovered(talk, crowd, last)

    assert min(kill.events for kill in killer.kills) >= IN_FLIGHT
    assert min(kill.conversations for kill in killer.kills) >= CONVERSATIONS
    check_balance(talk.stack, crowd.events, Counter())
    record = Record(await talk.client.ledger())
    process_slots, push_slots = SLOTS[pool]
    pushes, calls = killer.of("push", "redis"), killer.of("process", "redis")
    pushing, calling = len(killer.of("push:child")), len(killer.of("process:child"))
    check_answers(record, crowd, pushes, push_slots, send_s=SEND_S, children=pushing)
    check_model(record, crowd.events, calls, process_slots, children=calling)
    check_order(record, crowd)
    check_logs(talk.stack)


async def _recovered(talk: Talk, crowd: Crowd, last: float) -> None:
    """Wait until everything accepted is answered, and settled. last: the last kill, Unix seconds"""
    await talk.at_rest(timeout_s=last + RECOVERY_S - time.time())
    stats = await talk.client.stats()
    print(f"{crowd.events} events at rest {time.time() - last:.1f} s after the kills")
    print({name: value for name, value in stats.items() if name != "answers"}, crowd.refusals)
