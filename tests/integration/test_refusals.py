"""Refused calls: the first of a flood are told of, all of them are counted."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import time
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import redis

from ingress import refusals
from ingress.addresses import peer_of
from ingress.redis_client import connect
from ingress.refusals import FULL_LINES, MINUTE_S, MOST_ADDRESSES, MOST_LINES, Refusal, Refusals
from shared import audit
from shared.state import keys
from shared.state.refused import Kind, Refused
from shared.state.scripts import script
from tests.integration.gateway import build, running, settings_for
from tests.redis_server import RedisServer

UTC = ZoneInfo("UTC")
BAD = Kind("signature", "dingtalk", "default")


def refused(client: redis.Redis) -> Refused:
    """The sums of all days."""
    sums = Refused()
    for key in client.scan_iter(f"{keys.REFUSED_PREFIX}*"):
        sums.add(client.hgetall(key))
    return sums


def told(caplog: pytest.LogCaptureFixture, message: str) -> list[dict[str, Any]]:
    return [r.metadata for r in caplog.records if r.message == message]  # type: ignore[attr-defined]


def forged(platform: str) -> Any:
    path, headers, body = build(platform)
    name = "sign" if platform == "dingtalk" else "X-Lark-Signature"
    return path, {**headers, name: "forged-signature"}, body


class Time:
    """A monotonic clock that tests move."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_what_is_refused_is_counted_by_the_end_whatever_the_reason(
    redis_server: RedisServer, redis_client: redis.Redis
) -> None:
    settings = settings_for(redis_server.url)
    async with running(settings) as gateway:
        for _ in range(3):
            await gateway.post(forged("dingtalk"))
        await gateway.post(forged("feishu"))
        await gateway.post(("/dingtalk/webhook", {}, io.BytesIO(b"x" * ((1 << 20) + 1))))
        await gateway.post(build("dingtalk"))  # this one is let in

    sums = refused(redis_client)
    assert sums.kinds == {
        BAD: 3,
        Kind("signature", "feishu", "default"): 1,
        Kind("too_large", "dingtalk", "default"): 1,
    }
    assert sums.addresses == {"127.0.0.1": 5}


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("POST", "/feishu/webhook/nobody", 404, "no_such_bot"),
        ("POST", "/feishu/webhook/", 404, "no_such_bot"),
        ("POST", "/feishu/webhook/default/more%0A", 404, "no_such_bot"),
        ("GET", "/feishu/webhook/nobody", 404, "no_such_bot"),
        ("GET", "/feishu/webhook", 405, "method"),
        ("HEAD", "/feishu/webhook/default", 405, "method"),
    ],
)
async def test_a_call_that_reaches_no_bot_is_refused_like_others(
    redis_server: RedisServer,
    redis_client: redis.Redis,
    caplog: pytest.LogCaptureFixture,
    method: str,
    path: str,
    status: int,
    reason: str,
) -> None:
    async with running(settings_for(redis_server.url)) as gateway:
        with caplog.at_level(logging.INFO):
            answer = await gateway.call(method, path)
        counted = await gateway.outcome("feishu", reason, bot="-")

    assert (answer.status, answer.headers.get("Allow")) == (
        status,
        "POST" if status == 405 else None,
    )
    kind = Kind(reason, "feishu", "-")
    (line,) = told(caplog, "request.refused")
    assert line == {"log": "auth", **kind._asdict(), "address": "127.0.0.1"}
    assert counted == 1
    assert refused(redis_client).kinds == {kind: 1}


async def test_a_call_that_reaches_no_bot_costs_its_address_what_others_cost(
    redis_server: RedisServer,
) -> None:
    settings = settings_for(redis_server.url, SECURITY__ADDRESS_QPS="1")
    async with running(settings) as gateway:
        stray = await gateway.post(build("feishu"), "/feishu/webhook/nobody")
        limited = await gateway.post(build("feishu"))
        again = await gateway.post(build("feishu"), "/feishu/webhook/nobody")

    assert (stray.status, limited.status, again.status) == (404, 429, 404)
    assert int(limited.headers["Retry-After"]) > 5


async def test_what_a_limit_refuses_is_counted_also_behind_a_busy_reply(
    redis_server: RedisServer, redis_client: redis.Redis
) -> None:
    settings = settings_for(
        redis_server.url, ASYNC_PROCESSING__QUEUE_CAPACITY="1", DINGTALK__BUSY_REPLY="true"
    )
    async with running(settings) as gateway:
        statuses = [(await gateway.post(build("dingtalk"))).status for _ in range(3)]

    assert statuses == [200, 200, 200]
    assert refused(redis_client).kinds == {Kind("queue_full", "dingtalk", "default"): 2}


async def test_a_refused_call_is_a_line_of_auth_log_without_what_was_sent(
    redis_server: RedisServer, redis_client: redis.Redis, tmp_path: Path
) -> None:
    audit.configure("ingress", directory=tmp_path)
    try:
        async with running(settings_for(redis_server.url)) as gateway:
            await gateway.post(forged("dingtalk"))
    finally:
        audit.configure("ingress")

    text = (tmp_path / "auth.log").read_text("utf-8")
    line = json.loads(text)
    assert (line["message"], line["level"]) == ("request.refused", "WARNING")
    assert line["metadata"] == {"log": "auth", **BAD._asdict(), "address": "127.0.0.1"}
    assert "forged" not in text
    assert "hello" not in text


async def test_the_first_of_a_flood_have_a_line_and_the_minute_has_the_sums(
    redis_server: RedisServer, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Time()
    client = connect(settings_for(redis_server.url))
    told_of = Refusals(client, UTC, clock)
    with caplog.at_level(logging.INFO):
        for _ in range(500):
            told_of.note(Refusal(BAD, peer_of("192.0.2.1")))
        told_of.note(Refusal(BAD, peer_of("192.0.2.2")))
        clock.now += MINUTE_S
        told_of.note(Refusal(BAD, peer_of("192.0.2.1")))
        await told_of.stop()
    await client.aclose()

    addresses = [line["address"] for line in told(caplog, "request.refused")]
    assert addresses == ["192.0.2.1"] * FULL_LINES + ["192.0.2.2", "192.0.2.1"]
    (summary,) = told(caplog, "requests.refused")
    assert (summary["refused"], summary["without_a_line"]) == (501, 500 - FULL_LINES)
    assert summary["counts"] == [{**BAD._asdict(), "count": 501}]
    assert summary["addresses"][0] == {"address": "192.0.2.1", "count": 500}
    assert refused(redis_client).kinds == {BAD: 502}


async def test_a_flood_from_everywhere_takes_bounded_memory_and_keeps_exact_sums(
    redis_server: RedisServer, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    client = connect(settings_for(redis_server.url))
    told_of = Refusals(client, UTC)
    for batch in range(4):
        for number in range(2 * MOST_ADDRESSES):
            told_of.note(Refusal(BAD, peer_of(f"2001:db8:{batch}:{number:x}::1")))
        told_of.note(Refusal(BAD, peer_of("192.0.2.1")))  # of no interest to the sums by address
        await told_of.flush()
    await client.aclose()

    (day,) = redis_client.scan_iter(f"{keys.REFUSED_PREFIX}*")
    assert redis_client.hlen(day) <= 2000
    assert 0 < redis_client.ttl(day) <= keys.REFUSED_DAYS * 86_400
    sums = refused(redis_client)
    assert sums.kinds.total() == sums.addresses.total() == 4 * (2 * MOST_ADDRESSES + 1)
    assert len(told(caplog, "request.refused")) == MOST_LINES


async def test_a_network_of_ipv6_is_one_address(
    redis_server: RedisServer, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    client = connect(settings_for(redis_server.url))
    told_of = Refusals(client, UTC)
    for number in range(1, 101):
        told_of.note(Refusal(BAD, peer_of(f"2001:db8::{number:x}")))
    await told_of.stop()
    await client.aclose()

    lines = told(caplog, "request.refused")
    assert [line["address"] for line in lines] == [
        f"2001:db8::{n:x}" for n in range(1, FULL_LINES + 1)
    ]
    assert refused(redis_client).addresses == {"2001:db8::/64": 100}


async def test_an_outage_of_redis_costs_no_count_and_a_lost_answer_none_twice(
    redis_server: RedisServer, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect(settings_for(redis_server.url))
    told_of = Refusals(client, UTC)
    told_of.note(Refusal(BAD, peer_of("192.0.2.1")))
    send = refusals.within

    async def lose_the_answer(limit_s: float, work: Any) -> Any:
        await send(limit_s, work)
        raise TimeoutError

    monkeypatch.setattr(refusals, "within", lose_the_answer)
    await told_of.flush()
    told_of.note(Refusal(BAD, peer_of("192.0.2.1")))
    monkeypatch.setattr(refusals, "within", send)
    await told_of.flush()
    await client.aclose()

    assert refused(redis_client).kinds == {BAD: 2}


async def test_a_flood_that_goes_on_is_one_call_each_time(
    redis_server: RedisServer, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect(settings_for(redis_server.url))
    told_of = Refusals(client, UTC)
    told_of.note(Refusal(BAD, peer_of("192.0.2.1")))
    send, calls = refusals.within, 0

    async def refuse_meanwhile(limit_s: float, work: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls < 10:
            told_of.note(Refusal(BAD, peer_of("192.0.2.1")))
        return await send(limit_s, work)

    monkeypatch.setattr(refusals, "within", refuse_meanwhile)
    await told_of.flush()
    assert calls == len(redis_client.keys(f"{keys.AUDIT_SENT_PREFIX}*")) == 1
    await told_of.flush()
    await client.aclose()

    assert refused(redis_client).kinds == {BAD: 2}


def test_a_day_begins_by_the_clocks_of_the_settings(redis_client: redis.Redis) -> None:
    add = redis_client.register_script(script("audit_refused"))
    today = int(redis_client.time()[0]) // 86_400

    for n, offset_s in enumerate((-86_400, 0, 86_400)):
        add(keys=[f"mark{n}"], args=[keys.REFUSED_PREFIX, offset_s, "kind:a:b:c", 1])

    days = sorted(int(key.rpartition(":")[2]) for key in redis_client.keys("*refused*"))
    assert days[1] - days[0] == days[2] - days[1] == 1
    assert days[1] in (today, today + 1)


async def test_counts_go_to_redis_while_the_gateway_runs(
    redis_server: RedisServer, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "FLUSH_S", 0.05)
    async with running(settings_for(redis_server.url)) as gateway:
        await gateway.post(forged("dingtalk"))
        deadline = time.monotonic() + 10
        while not refused(redis_client).kinds:
            assert time.monotonic() < deadline, "nothing was counted"
            await asyncio.sleep(0.02)
