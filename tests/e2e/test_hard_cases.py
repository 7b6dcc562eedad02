"""What an operator meets once a year: poison, a full Redis, a restored one, frozen workers, …"""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from shared.envelope import QUEUES
from shared.state import keys
from tests.e2e.broken.poison import POISON
from tests.e2e.checks import (
    Record,
    check_answers,
    check_balance,
    check_logs,
    check_model,
    check_order,
    counters,
)
from tests.e2e.kills import Crowd, Kill
from tests.e2e.stack import PROCESS, PUSH, Stack, Worker
from tests.e2e.talk import Talk, eventually, new_chat

pytestmark = [pytest.mark.e2e, pytest.mark.matrix, pytest.mark.timeout(280)]

Note = Callable[[str, object], None]

PEOPLE = 52
IN_FLIGHT, CONVERSATIONS = 150, 50  #: what a Redis that is lost and restored holds at least
MORE_ROUNDS = 20
NEIGHBOURS = 500
SEND_S = 0.1
FROZEN_S = 60
REST_S = 60
DISTURBED_S = 5
HOUR_S = 3600
ROOM_BYTES = 4 << 20  #: what the tests of a full Redis fill
TEXT = "长文字" * 1300  #: 12 KB

TWO_OF_EACH = [
    Worker("process", "process", "threads", 16),
    Worker("push", "push", "threads", 8),
    Worker("both", "process,push", "gevent", 16),
]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two workers for each queue; for the cases that leave all processes alive."""
    with Stack(tmp_path_factory.mktemp("pair") / "run", workers=TWO_OF_EACH) as stack:
        yield stack


@pytest.fixture
async def talk(pair: Stack) -> AsyncIterator[Talk]:
    async with talking(pair) as talk:
        yield talk


@asynccontextmanager
async def talking(stack: Stack) -> AsyncIterator[Talk]:
    async with stack.client() as client:
        await client.control("reset")
        talk = Talk(stack, client)
        await talk.pace(latency_s=0.3)
        for target in ("feishu.reply", "dingtalk.session"):
            await talk.fault(target, "slow", delay_s=SEND_S, times=0)
        yield talk


async def crowd_of(talk: Talk, people: int, rounds: int) -> Crowd:
    crowd = Crowd(talk.client)
    crowd.gather(people)
    await crowd.write(rounds)
    return crowd


async def check_all(
    talk: Talk,
    crowd: Crowd,
    before: Counter[str],
    *,
    kills: list[Kill],
    calls: int = 0,
    sends: int = 0,
) -> None:
    """Every promise; calls and sends: how many ran at one of `kills`, at most."""
    check_balance(talk.stack, crowd.events, before)
    record = Record(await talk.client.ledger())
    check_answers(record, crowd, kills, sends, send_s=SEND_S)
    check_model(record, crowd.events, kills, calls)
    check_order(record, crowd)
    check_logs(talk.stack)


async def test_a_poison_message_dies_alone(
    tmp_path_factory: pytest.TempPathFactory, record_property: Note
) -> None:
    crowded = Worker("process", "process", "gevent", 600, app="tests.e2e.broken.poison")
    directory = tmp_path_factory.mktemp("poison") / "run"
    with Stack(directory, workers=[crowded, PUSH], keep_alive=True) as stack:
        async with talking(stack) as talk:
            await talk.pace(latency_s=3)
            chat = new_chat("feishu")
            neighbours = asyncio.create_task(crowd_of(talk, NEIGHBOURS, 1))
            await talk.say("feishu", POISON, chat=chat)
            crowd = await neighbours
            started = time.monotonic()
            await eventually(lambda: _starts(stack, 3), 90, "the process died twice")
            await talk.pace(latency_s=0)
            await talk.at_rest(timeout_s=150)

            record_property("rest_s", round(time.monotonic() - started, 1))
            record_property("deaths", stack["process"].starts - 1)
            counts = counters(stack)
            assert (counts["dead"], counts["answered"]) == (1, NEIGHBOURS)
            answers = (await talk.client.stats())["answers"]
            asked = [name for names in crowd.accepted.values() for name in names]
            assert [answers.get(name) for name in asked] == [1] * NEIGHBOURS
            assert len(await talk.texts(chat)) == 1, "its writer is told"
            assert stack["process"].starts == 6, "two deaths among neighbours, three alone"
            assert not any(bot["imbalance"] for bot in stack.census().values())


async def test_a_redis_above_its_limit_refuses_drains_and_takes_again(
    tmp_path_factory: pytest.TempPathFactory, record_property: Note
) -> None:
    settings = {"CLAWDBOT_CONVERSATION__TURNS": "0"}
    directory = tmp_path_factory.mktemp("full") / "run"
    with Stack(directory, settings=settings, keep_alive=True) as stack:
        async with talking(stack) as talk:
            await talk.pace(latency_s=4)
            used = stack.redis.info("memory")["used_memory"]
            stack.redis.config_set("maxmemory", int((used + ROOM_BYTES) / 0.8))
            chats = [new_chat(platform) for platform in ("dingtalk", "feishu") for _ in range(50)]
            accepted = await _write_until_refused(talk, chats)
            await talk.pace(latency_s=0.1)
            await talk.at_rest(timeout_s=REST_S)
            await eventually(lambda: _is_accepted(talk), 10, "service is back by itself")
            await talk.at_rest()

            record_property("accepted", accepted)
            answers = (await talk.client.stats())["answers"]
            assert set(answers.values()) == {1}
            counts = counters(stack)
            assert (counts["answered"], counts["dead"]) == (counts["accepted"], 0)
            assert not any(bot["imbalance"] for bot in stack.census().values())
            check_logs(stack)


async def test_a_redis_without_a_byte_left_empties_itself(
    tmp_path_factory: pytest.TempPathFactory, record_property: Note
) -> None:
    # The failing calls shall be made again at once, not wait for a breaker.
    settings = {"CLAWDBOT_CONVERSATION__TURNS": "0", "CLAWDBOT_MODEL_CALLS__BREAKER_FAILURES": "0"}
    directory = tmp_path_factory.mktemp("brim") / "run"
    with Stack(directory, settings=settings, keep_alive=True) as stack:
        async with talking(stack) as talk:
            await talk.pace(latency_s=2)
            crowd = await crowd_of(talk, PEOPLE, 2)
            # What else is a matter of seconds must not become the end: retries, new tokens.
            await talk.fault("model", "status", status=500, times=20)
            await talk.client.control("tokens/expire")
            await talk.client.control("sessions/expire")
            stack.redis.config_set("maxmemory", 1)
            status, _ = await talk.client.send("feishu", conversation=new_chat("feishu"), text="no")
            assert status == 503
            await talk.pace(latency_s=0.1)
            started = time.monotonic()
            await talk.at_rest(timeout_s=REST_S)
            record_property("rest_s", round(time.monotonic() - started, 1))
            stack.redis.config_set("maxmemory", 0)
            await eventually(lambda: _is_accepted(talk), 10, "service is back by itself")
            await talk.at_rest()

            answers = (await talk.client.stats())["answers"]
            assert all(answers[name] >= 1 for names in crowd.accepted.values() for name in names)
            assert counters(stack)["dead"] == 0
            assert not any(bot["imbalance"] for bot in stack.census().values())
            check_logs(stack)


async def test_a_redis_restored_from_its_file_has_everything(talk: Talk, pair: Stack) -> None:
    before = counters(pair)
    crowd = await crowd_of(talk, PEOPLE, 4)
    for _ in range(MORE_ROUNDS):
        events, conversations = pair.load()
        if events >= IN_FLIGHT and conversations >= CONVERSATIONS:
            break
        await crowd.write(1)
    assert events >= IN_FLIGHT
    assert conversations >= CONVERSATIONS
    server = pair.redis_server
    lost_at = time.time()
    pair.crash_redis()
    lost = server.directory
    server.directory = Path(shutil.copytree(lost, lost.with_name(f"restored-{int(lost_at)}")))
    shutil.rmtree(lost)
    server.start()
    kill = Kill("redis", lost_at, time.time())
    await crowd.write(1)
    await talk.at_rest(timeout_s=REST_S)

    await check_all(talk, crowd, before, kills=[kill], calls=32, sends=24)


async def test_a_flushed_script_cache_costs_nothing(talk: Talk, pair: Stack) -> None:
    before = counters(pair)

    async def flush() -> None:
        pair.redis.script_flush()

    async with _again_and_again(flush):
        crowd = await crowd_of(talk, PEOPLE, 4)
        await asyncio.sleep(DISTURBED_S)
    await talk.at_rest(timeout_s=REST_S)

    assert crowd.refusals == 0
    await check_all(talk, crowd, before, kills=[])


async def test_sweepers_side_by_side_do_nothing_twice(talk: Talk, pair: Stack) -> None:
    """Nobody keeps the sweeper's lease, every lane is always due, every queue loses its hints."""
    before = counters(pair)

    async def disturb() -> None:
        pair.redis.delete(keys.SWEEPER)
        for lane in pair.redis.zrange(keys.DUE, 0, -1):
            pair.redis.zadd(keys.DUE, {lane: 1}, xx=True)
        pair.redis.delete(*QUEUES)

    def sweeps() -> list[int]:
        logs = [pair[name].log.read_text() for name in ("process", "push", "both")]
        return [text.count("lanes.swept") for text in logs]

    sweeps_before = sweeps()

    async def several_swept() -> bool:
        return sum(now > then for now, then in zip(sweeps(), sweeps_before, strict=True)) > 1

    await talk.pace(latency_s=2)  # so that there is something to sweep for half a minute
    async with _again_and_again(disturb):
        crowd = await crowd_of(talk, PEOPLE, 4)
        await asyncio.sleep(DISTURBED_S)
        await eventually(several_swept, 20, "more than one worker sweeps")
    await talk.pace(latency_s=0)
    await talk.at_rest(timeout_s=REST_S)

    await check_all(talk, crowd, before, kills=[])


@pytest.mark.parametrize("off_s", [HOUR_S, -HOUR_S], ids=["ahead", "behind"])
async def test_a_worker_whose_clock_is_an_hour_off_works_like_any_other(
    tmp_path_factory: pytest.TempPathFactory, record_property: Note, off_s: int
) -> None:
    off = Worker("off", "process,push", "threads", 16, program="tests.e2e.broken.wrong_clock")
    directory = tmp_path_factory.mktemp("clock") / "run"
    settings, workers = {"CLOCK_OFF_S": str(off_s)}, [PROCESS, PUSH, off]
    with Stack(directory, settings=settings, workers=workers, keep_alive=True) as stack:
        async with talking(stack) as talk:
            await talk.fault("model", "status", status=500, times=10)
            crowd = await crowd_of(talk, PEOPLE, 3)
            await talk.at_rest()
            logged = stack["off"].log.read_text()
            assert logged.count("reply.written") > 10
            await check_all(talk, crowd, Counter(), kills=[], calls=0)

            await talk.client.control("reset")
            before = counters(stack)
            crowd = await crowd_of(talk, PEOPLE, 3)
            kills = []
            for name in ("off", "process"):  # each takes over what the other held
                stack[name].kill()
                kills.append(Kill(name, time.time(), time.time()))
            await talk.at_rest(timeout_s=REST_S)
            record_property("rest_s", round(time.time() - kills[-1].at, 1))
            await check_all(talk, crowd, before, kills=kills, calls=16, sends=16)


async def test_a_worker_that_wakes_after_a_minute_does_nothing_twice(
    tmp_path_factory: pytest.TempPathFactory, record_property: Note
) -> None:
    sleeper = Worker("sleeper", "process,push", "threads", 24)
    directory = tmp_path_factory.mktemp("frozen") / "run"
    with Stack(directory, workers=[PROCESS, PUSH, sleeper]) as stack:
        async with talking(stack) as talk:
            await talk.pace(latency_s=1)
            crowd = await crowd_of(talk, PEOPLE, 4)
            await eventually(lambda: _works(stack, "sleeper"), 20, "the sleeper works")
            stack["sleeper"].send_signal(signal.SIGSTOP)
            frozen = time.time()
            await talk.at_rest(timeout_s=REST_S)
            record_property("rest_s", round(time.time() - frozen, 1))
            shown = len(Record(await talk.client.ledger()).entries)
            await asyncio.sleep(frozen + FROZEN_S - time.time())
            stack["sleeper"].send_signal(signal.SIGCONT)
            await eventually(lambda: _log_has(stack, "sleeper", "claim.lost"), 20, "it gave up")
            await eventually(lambda: _is_seen(stack, "sleeper"), 20, "it is back")

            record_property("lost", stack["sleeper"].log.read_text().count("claim.lost"))
            assert len(Record(await talk.client.ledger()).entries) == shown, "late sends or calls"
            kill = Kill("sleeper", frozen, frozen)
            await check_all(talk, crowd, Counter(), kills=[kill], calls=24, sends=24)
            await talk.say("feishu", "and now?")
            await talk.at_rest()


async def _starts(stack: Stack, count: int) -> bool:
    return stack["process"].starts >= count


async def _works(stack: Stack, name: str) -> bool:
    return await _log_has(stack, name, "delivery.settled")


async def _log_has(stack: Stack, name: str, word: str) -> bool:
    return word in stack[name].log.read_text()


async def _is_seen(stack: Stack, name: str) -> bool:
    facts = stack.ready()[1].get("workers", {})
    return name in str(facts)


async def _is_accepted(talk: Talk) -> bool:
    status, _ = await talk.client.send("feishu", conversation=new_chat("feishu"), text="again?")
    return status == 200


async def _write_until_refused(talk: Talk, chats: list[str]) -> int:
    """Long messages, until 503; how many were accepted."""
    accepted = 0
    for number in range(2000):
        chat = chats[number % len(chats)]
        platform = "feishu" if chat.startswith("oc_") else "dingtalk"
        text = f"{chat} number {number:04d}. {TEXT}"
        status, _ = await talk.client.send(platform, conversation=chat, text=text)
        if status == 503:
            return accepted
        accepted += status == 200
        await asyncio.sleep(0.005)  # the ingress looks once a second
    raise AssertionError("a full Redis refused nothing")


@asynccontextmanager
async def _again_and_again(step: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    async def run() -> None:
        while True:
            await step()
            await asyncio.sleep(0.05)

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
