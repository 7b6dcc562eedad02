"""Refused calls: the first of a flood are told of, all of them are counted."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import redis
from aiohttp import web, web_urldispatcher
from aiohttp.http_parser import HttpRequestParserPy

from ingress import refusals
from ingress.addresses import peer_of
from ingress.redis_client import connect
from ingress.refusals import FULL_LINES, MINUTE_S, MOST_ADDRESSES, MOST_LINES, Refusal, Refusals
from shared import audit
from shared.state import keys
from shared.state.refused import Kind, Refused
from shared.state.scripts import script
from tests.integration.gateway import Gateway, build, running, settings_for
from tests.redis_server import RedisServer

NOT_HTTP = (
    b"GET / HTTP/1.1\r\nX X:a\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"X-A: b\r\n" * 200 + b"\r\n",
    b"POST /feishu/webhook HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
)
SOON_S = 10.0
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


async def say(gateway: Gateway, wire: bytes) -> bytes:
    """These bytes over a connection of their own; what comes back until its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(wire)
    got = b""
    with suppress(ConnectionError):
        async with asyncio.timeout(SOON_S):
            got = await reader.read()
    writer.close()
    return got


async def counted(gateway: Gateway, platform: str, reason: str, bot: str, calls: int) -> None:
    """Wait until the metric shows so many."""
    async with asyncio.timeout(SOON_S):
        while await gateway.outcome(platform, reason, bot=bot) != calls:
            await asyncio.sleep(0.02)


async def test_a_flood_of_what_is_no_http_has_a_few_lines_and_exact_sums(
    redis_server: RedisServer,
    redis_client: redis.Redis,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(refusals, "MINUTE_S", 3600.0)  # also on a machine that takes its time
    flood = [NOT_HTTP[n % len(NOT_HTTP)] for n in range(1000)]
    async with running(settings_for(redis_server.url)) as gateway:
        with caplog.at_level(logging.DEBUG):
            answers = [await say(gateway, wire) for wire in flood]
        await counted(gateway, "-", "bad_http", "-", 1000)

    assert {answer[:12] for answer in answers} == {b"HTTP/1.0 400"}
    lines = told(caplog, "request.refused")
    assert len(lines) == FULL_LINES
    kind = Kind("bad_http", "-", "-")
    assert lines[0] == {"log": "auth", **kind._asdict(), "address": "127.0.0.1"}
    (summary,) = told(caplog, "requests.refused")
    assert (summary["refused"], summary["without_a_line"]) == (1000, 1000 - FULL_LINES)
    assert [r.getMessage() for r in caplog.records if r.name.startswith("aiohttp")] == []
    sums = refused(redis_client)
    assert (sums.kinds, sums.addresses) == ({kind: 1000}, {"127.0.0.1": 1000})


async def test_what_is_no_http_costs_its_address_what_others_cost(
    redis_server: RedisServer,
) -> None:
    async with running(settings_for(redis_server.url, SECURITY__ADDRESS_QPS="1")) as gateway:
        await say(gateway, NOT_HTTP[0])
        limited = await gateway.post(build("feishu"))

    assert limited.status == 429
    assert int(limited.headers["Retry-After"]) > 5


async def test_a_caller_who_hangs_up_amid_the_body_is_refused_like_others(
    redis_server: RedisServer, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    head = b"POST /feishu/webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"
    async with running(settings_for(redis_server.url, SECURITY__ADDRESS_QPS="1")) as gateway:
        with caplog.at_level(logging.INFO):
            _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(head)
            await writer.drain()
            writer.close()
            await counted(gateway, "feishu", "hung_up", "default", 1)
        limited = await gateway.post(build("feishu"))

    kind = Kind("hung_up", "feishu", "default")
    line = told(caplog, "request.refused")[0]
    assert line == {"log": "auth", **kind._asdict(), "address": "127.0.0.1"}
    assert [r.getMessage() for r in caplog.records if r.name.startswith("aiohttp")] == []
    assert limited.status == 429
    assert refused(redis_client).kinds[kind] == 1


async def test_a_caller_who_is_gone_before_he_is_asked_for_the_body_is_refused_too(
    redis_server: RedisServer,
    redis_client: redis.Redis,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asks = web_urldispatcher._default_expect_handler

    async def ask_late(request: web.Request) -> None:
        assert request.transport
        request.transport.abort()
        await asks(request)

    monkeypatch.setattr(web_urldispatcher, "_default_expect_handler", ask_late)
    head = b"POST /feishu/webhook HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n"
    async with running(settings_for(redis_server.url)) as gateway:
        with caplog.at_level(logging.DEBUG):
            await say(gateway, head)
            await counted(gateway, "-", "hung_up", "-", 1)

    assert [r.getMessage() for r in caplog.records if r.name.startswith("aiohttp")] == []
    assert refused(redis_client).kinds == {Kind("hung_up", "-", "-"): 1}


@pytest.mark.parametrize(
    ("path", "kinds"),
    [
        ("/feishu/webhook", {Kind("bad_http", "feishu", "default"): 1}),
        ("/feishu/webhook/nobody", {Kind("no_such_bot", "feishu", "-"): 1}),
        ("/health", {}),
    ],
)
async def test_a_body_that_turns_to_nonsense_is_refused_once_at_most(
    redis_server: RedisServer,
    redis_client: redis.Redis,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    kinds: dict[Kind, int],
) -> None:
    """With the parser of platforms that have no wheel: the other one lets such a body time out."""
    monkeypatch.setattr("aiohttp.web_protocol.HttpRequestParser", HttpRequestParserPy)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
    async with running(settings_for(redis_server.url)) as gateway:
        with caplog.at_level(logging.DEBUG):
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
            async with asyncio.timeout(SOON_S):
                await reader.readuntil(b"\r\n")  # the head was read: the call is under way
                writer.write(b"zz\r\nabc\r\n")
                await reader.read()
            writer.close()

    assert [r.getMessage() for r in caplog.records if r.name.startswith("aiohttp")] == []
    assert refused(redis_client).kinds == kinds


async def test_connections_that_are_cut_are_told_of_like_refused_calls(
    redis_server: RedisServer,
    redis_client: redis.Redis,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ingress.connections.HEADER_TIMEOUT_S", 0.1)
    monkeypatch.setattr("ingress.connections.LOOK_S", 0.02)
    async with running(settings_for(redis_server.url, SECURITY__ADDRESS_QPS="1")) as gateway:
        with caplog.at_level(logging.DEBUG):
            for _ in range(3):
                assert await say(gateway, b"POST /feishu") == b""
            with monkeypatch.context() as none_may_be:
                none_may_be.setattr("ingress.connections.CONNECTIONS_PER_ADDRESS", 0)
                for _ in range(FULL_LINES + 5):
                    assert await say(gateway, b"") == b""
        monkeypatch.setattr("ingress.connections.HEADER_TIMEOUT_S", SOON_S)
        cut = await gateway.metric("clawdbot_ingress_connections_cut_total", reason="too_many")
        honest = await gateway.post(build("feishu"))

    slow, too_many = Kind("slow_header", "-", "-"), Kind("too_many", "-", "-")
    lines = [line["reason"] for line in told(caplog, "request.refused")]
    assert lines == ["slow_header"] * 3 + ["too_many"] * FULL_LINES
    assert [r.getMessage() for r in caplog.records if r.name == "ingress.connections"] == []
    assert cut == FULL_LINES + 5
    assert honest.status == 200  # it costs no calls
    assert refused(redis_client).kinds == {slow: 3, too_many: FULL_LINES + 5}


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
