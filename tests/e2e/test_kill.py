"""`kill -9` of everything, in a mixed order, with hundreds of events in flight, on every pool."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.e2e.kills import Crowd, Killer, cut_short
from tests.e2e.stack import PROCESS, PUSH, Stack, with_concurrency
from tests.e2e.talk import Talk

pytestmark = [pytest.mark.e2e, pytest.mark.kill, pytest.mark.timeout(240)]

PEOPLE = 52
FIRST_ROUNDS = 6
IN_FLIGHT = 200  #: at the first kill, at least
PAUSE_S = 1.2  #: between two kills
WRITE_EVERY_S = 4.0
MODEL_S = 1.0
SEND_S = 0.2
RECOVERY_S = 90

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
    crowd, killer = Crowd(talk.client), Killer(talk.stack, seed=pool, pause_s=PAUSE_S)
    crowd.gather(PEOPLE)
    await crowd.write(FIRST_ROUNDS)
    while talk.stack.in_flight() < IN_FLIGHT:
        await crowd.write(1)

    stop = asyncio.Event()
    writing = asyncio.create_task(crowd.keep_writing(stop, pause_s=WRITE_EVERY_S))
    await killer.run(VICTIMS + (CHILDREN if pool == "prefork" else []))
    stop.set()
    await writing
    await _recovered(talk, crowd)

    _check_balance(talk.stack, crowd)
    ledger = await talk.client.ledger()
    shown = [r for r in ledger if r["kind"] == "send" and r["outcome"] == "visible"]
    process_slots, push_slots = SLOTS[pool]
    _check_answers(shown, crowd, killer, push_slots)
    _check_model(ledger, crowd, killer, process_slots)
    _check_order(shown, crowd)
    _check_logs(talk.stack)


async def _recovered(talk: Talk, crowd: Crowd) -> None:
    """Wait until everything accepted is answered, and settled."""
    started = time.monotonic()
    await talk.at_rest(timeout_s=RECOVERY_S)
    stats = await talk.client.stats()
    print(f"{crowd.events} events at rest {time.monotonic() - started:.1f} s after the kills")
    print({name: value for name, value in stats.items() if name != "answers"}, crowd.refusals)


def _check_balance(stack: Stack, crowd: Crowd) -> None:
    facts = stack.census().values()
    assert [bot["imbalance"] for bot in facts] == [0, 0]
    assert [bot["in_flight"] for bot in facts] == [0, 0]
    assert sum(bot["counts"]["accepted"] for bot in facts) == crowd.events
    assert sum(bot["counts"]["answered"] for bot in facts) == crowd.events
    assert stack.unfinished_lanes() == 0
    assert list(stack.redis.scan_iter("*:state")) == []


def _check_answers(shown: list[dict[str, Any]], crowd: Crowd, killer: Killer, slots: int) -> None:
    """One answer each; DingTalk, which has no key against it, may show again what was cut short."""
    answers = Counter(send["message_id"] for send in shown)
    told = {chat: [answers.pop(name, 0) for name in crowd.accepted[chat]] for chat in crowd.chats}
    assert not answers, "answers to nothing that was accepted"
    assert all(set(counts) == {1} for chat, counts in told.items() if chat.startswith("oc_")), (
        "Feishu shows every answer once"
    )
    assert all(min(counts) == 1 for counts in told.values()), "every message is answered"

    ding_sends = [send for send in shown if send["platform"] == "dingtalk"]
    repeats = sum(sum(counts) - len(counts) for counts in told.values())
    mains = killer.of("push", "redis")
    allowed = cut_short(mains, ding_sends, slots=slots, lasting_s=SEND_S)
    allowed += len(killer.of("push:child"))
    print(f"DingTalk repeats: {repeats} of {allowed} sends cut short")
    assert repeats <= allowed


def _check_model(ledger: list[dict[str, Any]], crowd: Crowd, killer: Killer, slots: int) -> None:
    """A call is made again only when the first one was cut short."""
    calls = [record for record in ledger if record["kind"] == "model"]
    again = cut_short(killer.of("process", "redis"), calls, slots=slots)
    again += len(killer.of("process:child"))
    print(f"model calls: {len(calls)} for {crowd.events} events, {again} cut short")
    assert len(calls) <= crowd.events + again


def _check_order(shown: list[dict[str, Any]], crowd: Crowd) -> None:
    """The first sight of every answer follows the order of acceptance."""
    for chat in crowd.chats:
        first_seen = dict.fromkeys(
            send["message_id"] for send in shown if send["conversation"] == chat
        )
        assert list(first_seen) == crowd.accepted[chat], chat


def _check_logs(stack: Stack) -> None:
    """A kill is no bug of ours, and no reason to tell secrets."""
    log = stack.log_text()
    assert [word for word in ("supervision.bug", "webhook.bug", "bug:") if word in log] == []
    assert [secret for secret in stack.secrets() if secret in log] == []
