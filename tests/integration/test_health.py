"""/health, /ready and /metrics: each says what is so, also when Redis is away."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families

from shared.messages import Reply
from shared.state import keys
from shared.state.key_ring import DAY_MS, Entry, KeyRing
from shared.state.keys import RingKeys
from tests.integration.gateway import Gateway, build, running, settings_for
from tests.integration.lanes import BOT, Bench, event, outbox
from tests.queries import rules
from tests.redis_server import RedisServer
from workers.model.breaker import Breaker, Limits

FEISHU = {"platform": "feishu", "bot": "default"}
LANE_METRICS = ("clawdbot_events", "clawdbot_conservation_imbalance", "clawdbot_lanes")


@pytest.fixture
async def gateway(redis_server: RedisServer, redis_client: redis.Redis) -> AsyncIterator[Gateway]:
    """Its Feishu bot is the one whose lanes `Bench` fills."""
    async with running(settings_for(redis_server.url, FEISHU__APP_ID="cli_test")) as served:
        yield served


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that a test may stop."""
    with RedisServer(tmp_path) as server:
        yield server


async def test_health_never_touches_redis(own_server: RedisServer) -> None:
    with redis.Redis.from_url(own_server.url, decode_responses=True) as client:
        async with running(settings_for(own_server.url)) as gateway:
            with client.monitor() as monitor:
                answers = [await gateway.get("/health") for _ in range(5)]
                client.echo("that was all")
                told = (each["command"] for each in monitor.listen())
                seen = list(itertools.takewhile(lambda line: "that was all" not in line, told))
    commands = {line.split()[0] for line in seen}

    assert [answer.json() for answer in answers] == [{"status": "ok"}] * 5
    assert commands <= {"HELLO", "CLIENT", "PING", "INFO"}  # the memory watch goes on


async def test_without_redis_health_is_fine_ready_is_not_and_metrics_have_no_lanes(
    own_server: RedisServer,
) -> None:
    async with running(settings_for(own_server.url)) as gateway:
        assert (await gateway.get("/ready")).status == 200
        assert await gateway.metric("clawdbot_queue_hints", queue="process") == 0
        assert await gateway.metric("clawdbot_redis_up") == 1
        own_server.stop(signal.SIGKILL)

        assert (await gateway.get("/health")).status == 200
        ready = await gateway.get("/ready")
        metrics = (await gateway.get("/metrics")).body.decode()

        own_server.start()
        assert (await gateway.get("/ready")).status == 200
        assert await gateway.metric("clawdbot_queue_hints", queue="process") == 0

    assert ready.status == 503
    assert ready.headers["Retry-After"] == "1"
    assert ready.json()["reasons"][0].startswith("redis: ")
    assert "clawdbot_redis_up 0.0" in metrics
    assert "clawdbot_redis_memory_ratio" not in metrics
    assert all(f"{name}{{" not in metrics for name in (*LANE_METRICS, "clawdbot_queue_hints"))


async def test_a_frozen_redis_makes_ready_fail_and_health_not(own_server: RedisServer) -> None:
    async with running(settings_for(own_server.url)) as gateway:
        assert (await gateway.get("/ready")).status == 200
        own_server.send_signal(signal.SIGSTOP)
        health, ready = await gateway.get("/health"), await gateway.get("/ready")
        own_server.send_signal(signal.SIGCONT)

    assert (health.status, ready.status) == (200, 503)


async def test_a_redis_that_takes_no_writes_is_not_ready(
    gateway: Gateway, redis_client: redis.Redis
) -> None:
    redis_client.config_set("min-replicas-to-write", 1)
    answer = await gateway.get("/ready")
    redis_client.config_set("min-replicas-to-write", 0)

    assert answer.status == 503
    assert answer.json()["reasons"][0].startswith("redis: ")
    assert (await gateway.get("/ready")).status == 200


async def test_a_bot_without_room_is_named_and_one_with_room_keeps_the_process_ready(
    redis_server: RedisServer, redis_client: redis.Redis
) -> None:
    settings = settings_for(redis_server.url, ASYNC_PROCESSING__QUEUE_CAPACITY="1")
    async with running(settings) as gateway:
        before = await gateway.get("/ready")
        await gateway.post(build("feishu"))
        one = await gateway.get("/ready")
        await gateway.post(build("dingtalk"))
        all_of_them = await gateway.get("/ready")

    assert (before.status, one.status, all_of_them.status) == (200, 200, 503)
    assert [a.json()["full"] for a in (before, one)] == [[], ["feishu/default"]]
    assert one.json()["reasons"] == []
    assert all_of_them.json()["reasons"] == [
        f"bot {name}: queue_capacity is used up" for name in ("dingtalk/default", "feishu/default")
    ]


@pytest.mark.parametrize("path", ["/ready", "/metrics"])
async def test_many_who_ask_at_once_cost_redis_what_one_does(
    gateway: Gateway, redis_client: redis.Redis, path: str
) -> None:
    async def cost(askers: int) -> int:
        before = redis_client.info("commandstats").get("cmdstat_hgetall", {"calls": 0})["calls"]
        answers = await asyncio.gather(*(gateway.get(path) for _ in range(askers)))
        assert {answer.status for answer in answers} == {200}
        return redis_client.info("commandstats")["cmdstat_hgetall"]["calls"] - before

    one = await cost(1)
    assert await cost(30) <= 15 * one


def worker_seen(client: redis.Redis, name: str, *queues: str, ago_ms: int = 0) -> None:
    seconds, micros = client.time()
    now_ms = seconds * 1000 + micros // 1000
    facts = {"queues": queues, "pool": "thread", "seen_ms": now_ms - ago_ms}
    client.hset(keys.WORKERS, name, json.dumps(facts))


async def test_ready_shows_workers_without_needing_them(gateway: Gateway) -> None:
    answer = await gateway.get("/ready")

    assert answer.status == 200
    assert answer.json() == {
        "status": "ready",
        "reasons": [],
        "full": [],
        "workers": {"process": [], "push": []},
    }


async def test_deep_ready_needs_a_live_worker_for_both_queues(
    gateway: Gateway, redis_client: redis.Redis
) -> None:
    none = await gateway.get("/ready?deep=1")
    worker_seen(redis_client, "w1@host", "process")
    worker_seen(redis_client, "w2@host", "push", ago_ms=60_000)
    one = await gateway.get("/ready?deep=1")
    worker_seen(redis_client, "w2@host", "push")
    both = await gateway.get("/ready?deep=1")

    assert none.status == 503
    assert len(none.json()["reasons"]) == 2
    assert one.json()["reasons"] == ["no live worker for queue push"]
    assert (both.status, both.json()["reasons"]) == (200, [])
    assert both.json()["workers"] == {"process": ["w1@host"], "push": ["w2@host"]}


def in_every_state(bench: Bench) -> None:
    """One waits, two are to be pushed, one is answered, two are dead, one is dropped."""
    events = [event(conversation) for conversation in "abcdefg"]
    _, to_push, to_push_too, answered, dead, noticed, dropped = events
    bench.accept(*events)
    for each in (to_push, to_push_too, answered):
        bench.processed(each)
    bench.lanes.settle(bench.claim_reply(answered), next_part=1, parts=1)
    for each in (dead, noticed, dropped):
        notice = Reply(("sorry",), kind="notice") if each is noticed else None
        bench.lanes.bury(bench.claim(each), "model:400", notice)
    assert bench.lanes.drop(BOT, [dropped.trace_id]) == 1
    assert bench.client.exists(outbox(noticed))


async def test_the_conservation_equation_holds_with_events_in_every_state(
    gateway: Gateway, redis_client: redis.Redis
) -> None:
    in_every_state(Bench(redis_client))

    fates = ("accepted", "answered", "rejected", "cancelled", "dead", "dropped", "in_flight")
    values = {fate: await gateway.metric("clawdbot_events", **FEISHU, fate=fate) for fate in fates}

    assert values == {
        "accepted": 7,
        "answered": 1,
        "rejected": 0,
        "cancelled": 0,
        "dead": 2,
        "dropped": 1,
        "in_flight": 3,
    }
    assert await gateway.metric("clawdbot_conservation_imbalance", **FEISHU) == 0
    assert await gateway.metric("clawdbot_lanes", **FEISHU, stage="process") == 1
    assert await gateway.metric("clawdbot_lanes", **FEISHU, stage="push") == 3
    assert await gateway.metric("clawdbot_lane_events", **FEISHU, stage="process") == 1
    assert await gateway.metric("clawdbot_lane_events", **FEISHU, stage="push") == 2


async def test_the_oldest_unfinished_event_of_each_stage_shows_its_age(
    gateway: Gateway, redis_client: redis.Redis
) -> None:
    bench = Bench(redis_client)
    waits, behind_it, replied, dead = event("a"), event("a"), event("b"), event("c")
    bench.accept(waits, behind_it, replied, dead)
    bench.processed(replied)
    bench.lanes.bury(bench.claim(dead), "model:400", Reply(("sorry",), kind="notice"))
    for each, age_s in ((waits, 90), (replied, 40), (dead, 5000)):
        accepted = int(redis_client.hget(BOT.event(each.trace_id), "accepted") or 0)
        redis_client.hset(BOT.event(each.trace_id), "accepted", accepted - age_s * 1000)

    ages = [
        await gateway.metric("clawdbot_oldest_event_seconds", **FEISHU, stage=stage) or 0
        for stage in ("process", "push")
    ]

    assert 90 <= ages[0] < 120
    assert 40 <= ages[1] < 70
    bench.processed(waits)
    bench.processed(behind_it)
    assert await gateway.metric("clawdbot_oldest_event_seconds", **FEISHU, stage="process") == 0


async def test_an_open_breaker_shows_until_a_call_went_well(
    gateway: Gateway, redis_client: redis.Redis
) -> None:
    breaker = Breaker(redis_client, "default", Limits(2, 0.5, 30, 20))
    assert await gateway.metric("clawdbot_model_breaker_open", model="default") == 0

    for _ in range(2):
        breaker.ended("", first_token_s=None)
    opened = await gateway.metric("clawdbot_model_breaker_open", model="default")
    redis_client.delete(keys.breaker("default"))  # as `breaker_report.lua` closes it

    assert opened == 1
    assert await gateway.metric("clawdbot_model_breaker_open", model="default") == 0


async def test_live_workers_are_counted_by_queue(
    gateway: Gateway, redis_client: redis.Redis
) -> None:
    worker_seen(redis_client, "w1@host", "process", "push")
    worker_seen(redis_client, "w2@host", "process", "a queue of somebody else")
    worker_seen(redis_client, "w3@host", "push", ago_ms=60_000)

    assert await gateway.metric("clawdbot_workers", queue="process") == 2
    assert await gateway.metric("clawdbot_workers", queue="push") == 1


async def test_an_event_that_vanished_shows_as_an_imbalance(
    gateway: Gateway, redis_client: redis.Redis
) -> None:
    bench = Bench(redis_client)
    bench.accept(event("a"), event("b"))
    redis_client.delete("feishu:cli_test:conv:a:inbox")

    assert await gateway.metric("clawdbot_conservation_imbalance", **FEISHU) == 1


async def test_more_lanes_than_one_walk_takes_are_all_counted(
    gateway: Gateway, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    Bench(redis_client).accept(*(event(f"c{n}") for n in range(10)))
    assert await gateway.metric("clawdbot_conservation_imbalance", **FEISHU) == 0
    monkeypatch.setattr("ingress.lane_gauges.LANES_PER_CALL", 3)

    assert await gateway.metric("clawdbot_lanes", **FEISHU, stage="process") == 10
    assert await gateway.metric("clawdbot_conservation_imbalance", **FEISHU) is None


async def test_metrics_are_prometheus_text_with_labels_from_closed_sets(gateway: Gateway) -> None:
    for n in range(3):
        await gateway.post(build("dingtalk", conversation=f"c{n}", message_id=f"secret-id-{n}"))
    await gateway.post(build("dingtalk"), "/made-up/webhook/other")

    answer = await gateway.get("/metrics")

    families = {f.name: f for f in text_string_to_metric_families(answer.body.decode())}
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert all(family.documentation for family in families.values())
    assert all(name.startswith("clawdbot_") for name in families)
    requests = families["clawdbot_ingress_requests"].samples
    assert {s.labels["platform"] for s in requests} == {"-", "dingtalk", "feishu"}
    assert {s.labels["bot"] for s in requests} == {"-", "default"}
    assert [s.labels for s in requests if s.value] == [
        {"platform": "dingtalk", "bot": "default", "outcome": "accepted"}
    ]
    assert families["clawdbot_ingress_ack_seconds"].type == "histogram"
    assert b"secret-id" not in answer.body
    assert b"made-up" not in answer.body


async def test_outcomes_that_alerts_count_are_there_at_0(gateway: Gateway) -> None:
    asked = [
        re.findall(r'ingress_requests_total\{\s*outcome=~?"([^"]+)"', rule["expr"])
        for rule in rules()
    ]
    outcomes = {outcome for found in asked for regex in found for outcome in regex.split("|")}

    assert {"unavailable", "rate_limited", "address_limited"} <= outcomes
    assert {await gateway.outcome("feishu", outcome) for outcome in outcomes} == {0}


async def test_key_rings_are_shown_by_state_without_being_opened(
    gateway: Gateway, redis_client: redis.Redis
) -> None:
    now_ms = int(redis_client.time()[0]) * 1000
    entries = [
        Entry("aaaaaaaa", "active", "sealed", now_ms, now_ms + 30 * DAY_MS),
        Entry("bbbbbbbb", "replaced", "sealed", now_ms, now_ms, now_ms + 5 * DAY_MS),
        Entry("cccccccc", "replaced", "sealed", now_ms, now_ms, now_ms + 2 * DAY_MS),
        Entry("dddddddd", "archived", "", now_ms, now_ms),
    ]
    redis_client.set(RingKeys("default").ring, KeyRing(tuple(entries)).to_json())

    async def shown(metric: str, state: str) -> float | None:
        return await gateway.metric(metric, model="default", state=state)

    assert await shown("clawdbot_key_expiry_days", "active") == pytest.approx(30, abs=0.01)
    assert await shown("clawdbot_key_expiry_days", "replaced") == pytest.approx(2, abs=0.01)
    assert await shown("clawdbot_key_expiry_days", "next") is None
    counts = [await shown("clawdbot_keys", state) for state in ("active", "replaced", "next")]
    assert counts == [1, 2, 0]
    redis_client.delete(RingKeys("default").ring)
    assert await shown("clawdbot_key_expiry_days", "active") is None
    assert await shown("clawdbot_keys", "active") == 0
