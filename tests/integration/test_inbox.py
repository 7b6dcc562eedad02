"""The inbox: waiting events share a call, and nobody's end is anybody else's."""

from __future__ import annotations

import asyncio
import itertools
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

from ingress.bots import IngressBot, build_bots
from ingress.inbox import MAX_BATCH_EVENTS, Inbox, Limits
from ingress.memory import MemoryWatch
from ingress.redis_client import connect
from shared.envelope import hint_templates
from shared.errors import StateUnavailableError
from shared.messages import Event
from tests.integration.gateway import build, running, settings_for
from tests.redis_server import RedisServer

NO_LIMITS = Limits(qps=lambda: 0, queue_capacity=100_000)
TEMPLATES = hint_templates()
HANDSHAKE = ("HELLO", "CLIENT")  #: of the test's own second connection
SOON_S = 3.0  #: `DEADLINE_S` is 0.8; the rest is for a noisy machine


class Desk:
    """One ingress's inbox and a look into its Redis."""

    def __init__(self, server: RedisServer, limits: Limits = NO_LIMITS) -> None:
        self.settings = settings_for(server.url)
        self.client = connect(self.settings)
        self.inbox = Inbox(self.client, TEMPLATES, limits)
        self.bot: IngressBot = build_bots(self.settings)["feishu", "default"]
        self.look = server.client()

    def event(self, number: int, text: str = "hello") -> Event:
        return Event(
            platform="feishu",
            app_id=self.bot.keys.app_id,
            message_id=f"om_{number}",
            event_id=f"ev_{number}",
            conversation_id=f"c{number}",
            text=text,
        )

    async def accept(self, *numbers: int, text: str = "hello") -> list[Any]:
        calls = (self.inbox.accept(self.bot, self.event(n, text)) for n in numbers)
        return await asyncio.gather(*calls, return_exceptions=True)

    def start(self, number: int) -> asyncio.Task[Any]:
        return asyncio.create_task(self.inbox.accept(self.bot, self.event(number)))

    def accepted(self) -> int:
        return int(self.look.hget(self.bot.keys.counts, "accepted") or 0)

    def calls(self) -> int:
        """Script calls since the last `CONFIG RESETSTAT`."""
        return int(self.look.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0))

    async def close(self) -> None:
        await self.client.aclose()
        self.look.close()


@pytest.fixture
async def desk(redis_server: RedisServer, redis_client: redis.Redis) -> AsyncIterator[Desk]:
    made = Desk(redis_server)
    assert await made.accept(0) == ["accepted"]  # connected, and the script is loaded
    made.look.config_resetstat()
    yield made
    await made.close()


async def test_events_that_wait_at_the_same_moment_share_one_call(desk: Desk) -> None:
    events = range(1, MAX_BATCH_EVENTS + 1)
    assert await desk.accept(*events) == ["accepted"] * len(events)

    assert desk.calls() == 1


async def test_a_batch_costs_one_round_trip(desk: Desk) -> None:
    with desk.look.monitor() as monitor:
        await desk.accept(*range(1, MAX_BATCH_EVENTS + 1))
        desk.look.echo("that was all")
        seen = itertools.takewhile(lambda c: "that was all" not in c["command"], monitor.listen())
        by_clients = [c["command"].split()[0] for c in seen if c["client_type"] != "lua"]

    assert [name for name in by_clients if name not in HANDSHAKE] == ["EVALSHA"]


async def test_events_that_come_during_a_call_share_the_next_one(desk: Desk) -> None:
    first = desk.start(1)
    for _ in range(5):
        await asyncio.sleep(0)

    answers = await desk.accept(*range(2, MAX_BATCH_EVENTS))

    assert (await first, *answers) == ("accepted",) * (MAX_BATCH_EVENTS - 1)
    assert desk.calls() == 2


async def test_a_batch_has_a_bound(desk: Desk) -> None:
    events = range(1, 2 * MAX_BATCH_EVENTS + 2)
    assert await desk.accept(*events) == ["accepted"] * len(events)

    assert desk.calls() == 3


@pytest.mark.parametrize("letter", ["x", "群"])
async def test_a_batch_has_about_one_mebibyte_at_most(letter: str, desk: Desk) -> None:
    text = letter * (65_536 // len(letter.encode()))

    assert await desk.accept(*range(1, 41), text=text) == ["accepted"] * 40

    assert desk.calls() == 3  # 16 records of 64 KiB each, then 16, then 8


async def test_duplicates_within_one_batch_are_told_apart(desk: Desk) -> None:
    assert await desk.accept(1, 1, 2, 1) == ["accepted", "duplicate", "accepted", "duplicate"]
    assert desk.calls() == 1


async def test_a_caller_that_leaves_takes_nobody_along(desk: Desk) -> None:
    desk.look.client_pause(200)  # the batch is under way while the caller leaves
    tasks = [desk.start(n) for n in range(1, 11)]
    for _ in range(5):
        await asyncio.sleep(0)

    tasks[3].cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(a) for a in answers].count(asyncio.CancelledError) == 1
    assert answers.count("accepted") == 9
    assert desk.accepted() == 11  # recorded all the same: sent again, it is a duplicate
    assert await desk.accept(4) == ["duplicate"]


async def test_a_caller_that_left_before_its_call_is_not_recorded(desk: Desk) -> None:
    desk.look.client_pause(200)
    first = desk.start(1)
    for _ in range(5):
        await asyncio.sleep(0)
    waiting = [desk.start(n) for n in (2, 3)]
    for _ in range(5):
        await asyncio.sleep(0)

    waiting[0].cancel()
    answers = await asyncio.gather(first, *waiting, return_exceptions=True)

    assert isinstance(answers[1], asyncio.CancelledError)
    assert (answers[0], answers[2]) == ("accepted", "accepted")
    assert await desk.accept(2) == ["accepted"]


async def test_a_redis_that_forgot_its_scripts_is_told_again(desk: Desk) -> None:
    desk.look.script_flush()

    assert await desk.accept(1, 2) == ["accepted", "accepted"]


async def test_connections_that_were_cut_are_made_again(desk: Desk) -> None:
    for client in desk.look.client_list():
        if client["addr"] != desk.look.client_info()["addr"]:
            desk.look.client_kill(client["addr"])

    assert await desk.accept(1, 2) == ["accepted", "accepted"]


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that a test may stop."""
    with RedisServer(tmp_path) as server:
        yield server


async def test_without_redis_an_event_is_refused_soon_and_taken_when_it_is_back(
    own_server: RedisServer,
) -> None:
    desk = Desk(own_server)
    assert await desk.accept(0) == ["accepted"]
    own_server.stop(signal.SIGKILL)

    started = time.monotonic()
    answers = await desk.accept(*range(1, 6))
    took = time.monotonic() - started

    assert [type(answer) for answer in answers] == [StateUnavailableError] * 5
    assert took < SOON_S
    own_server.start()
    assert await desk.accept(1) == ["accepted"]
    assert desk.accepted() == 2
    await desk.close()


async def test_a_frozen_redis_is_not_waited_for_and_no_answer_is_mixed_up(
    own_server: RedisServer,
) -> None:
    desk = Desk(own_server)
    assert await desk.accept(0) == ["accepted"]
    own_server.send_signal(signal.SIGSTOP)

    started = time.monotonic()
    answers = await desk.accept(1, 2)
    took = time.monotonic() - started

    own_server.send_signal(signal.SIGCONT)
    assert [type(answer) for answer in answers] == [StateUnavailableError] * 2
    assert took < SOON_S
    again = await until_recorded(desk, 1)
    assert again in ("accepted", "duplicate")  # the frozen call may have been carried out
    assert await desk.accept(0, 3, 0, 4) == ["duplicate", "accepted", "duplicate", "accepted"]
    assert desk.look.llen(desk.bot.keys.inbox("c1")) == 1
    await desk.close()


async def until_recorded(desk: Desk, number: int) -> Any:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        (answer,) = await desk.accept(number)
        if not isinstance(answer, StateUnavailableError):
            return answer
    raise AssertionError("Redis runs again, and events are still refused")


@pytest.fixture
def full_server(redis_server: RedisServer, redis_client: redis.Redis) -> Iterator[redis.Redis]:
    """A Redis whose memory limit a test may lower."""
    yield redis_client
    redis_client.config_set("maxmemory", 0)


async def test_a_full_redis_refuses_with_503_and_records_nothing(
    redis_server: RedisServer, full_server: redis.Redis
) -> None:
    async with running(settings_for(redis_server.url)) as gateway:
        full_server.config_set("maxmemory", 1)
        answer = await gateway.post(build("feishu"))
        full_server.config_set("maxmemory", 0)

        assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
        assert answer.json() in ({"error": "unavailable"}, {"error": "redis_full"})
        assert full_server.keys("feishu:*") == []


async def test_the_inbox_turns_a_refusal_to_write_into_unavailable(
    desk: Desk, full_server: redis.Redis
) -> None:
    full_server.config_set("maxmemory", 1)

    (answer,) = await desk.accept(1)

    assert isinstance(answer, StateUnavailableError)
    assert "OutOfMemoryError" in str(answer)


async def test_the_watch_calls_redis_full_at_80_percent(
    desk: Desk, full_server: redis.Redis
) -> None:
    watch = MemoryWatch(desk.client)
    used = full_server.info("memory")["used_memory"]

    seen, ratios = [], [watch.used_ratio]
    for limit in (0, used * 10, used, used * 10):
        full_server.config_set("maxmemory", limit)
        await watch.look()
        seen.append(watch.is_full)
        ratios.append(watch.used_ratio)

    assert seen == [False, False, True, False]
    assert ratios[:2] == [None, 0.0]
    assert ratios[2:] == pytest.approx([0.1, 1.0, 0.1], rel=0.2)


async def test_events_are_refused_while_redis_is_nearly_full(
    redis_server: RedisServer, full_server: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingress.memory.INTERVAL_S", 0.05)
    full_server.setrange("ballast", 20_000_000, "x")  # a few connections more don't matter then
    used = full_server.info("memory")["used_memory"]
    async with running(settings_for(redis_server.url)) as gateway:
        full_server.config_set("maxmemory", int(used * 1.15))
        refused = await until_status(gateway, 503)
        ratio = await gateway.metric("clawdbot_redis_memory_ratio")
        ready = await gateway.get("/ready")
        full_server.config_set("maxmemory", 0)
        await until_status(gateway, 200)

    assert ratio == pytest.approx(1 / 1.15, rel=0.1)
    assert refused == {"error": "redis_full"}
    assert ready.status == 503
    assert ready.json()["reasons"] == ["redis: memory above 80 % of maxmemory"]


async def until_status(gateway: Any, status: int) -> Any:
    deadline = time.monotonic() + 10
    numbers = itertools.count()
    while time.monotonic() < deadline:
        answer = await gateway.post(build("feishu", conversation=f"c{next(numbers)}"))
        if answer.status == status:
            return answer.json()
        await asyncio.sleep(0.02)
    raise AssertionError(f"no answer {status}")


async def test_an_event_that_no_replica_has_is_not_acknowledged(
    redis_server: RedisServer, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingress.inbox.REPLICA_WAIT_MS", 100)
    settings = settings_for(redis_server.url, REDIS__WAIT_REPLICAS="1")
    async with running(settings) as gateway:
        first = await gateway.post(build("feishu", message_id="om_1"))
        again = await gateway.post(build("feishu", message_id="om_1"))

    assert (first.status, again.status) == (503, 503)


async def test_an_event_that_a_replica_has_is_acknowledged(
    own_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("replica")
    with own_server.client() as look:
        look.config_set("repl-diskless-sync-delay", 0)
    with RedisServer(folder, "--replicaof", "127.0.0.1", str(own_server.port)) as replica:
        await replicating(replica)
        desk = Desk(own_server, Limits(qps=lambda: 0, queue_capacity=100, wait_replicas=1))
        assert await desk.accept(1, 2) == ["accepted", "accepted"]
        with replica.client() as look:
            assert look.llen(desk.bot.keys.inbox("c1")) == 1
        await desk.close()


async def replicating(replica: RedisServer) -> None:
    deadline = time.monotonic() + 20
    with replica.client() as look:
        while look.info("replication").get("master_link_status") != "up":
            assert time.monotonic() < deadline, "the replica did not connect"
            await asyncio.sleep(0.05)


async def test_a_fault_that_nobody_thought_of_leaves_no_caller_waiting(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> Any:
        raise ValueError("no word of this gets out")

    with monkeypatch.context() as broken:
        broken.setattr(desk.inbox, "_send", fail)
        async with asyncio.timeout(SOON_S):
            answers = await desk.accept(1, 2)

    assert [str(answer) for answer in answers] == ["Redis could not record: ValueError"] * 2
    assert await desk.accept(3) == ["accepted"]
