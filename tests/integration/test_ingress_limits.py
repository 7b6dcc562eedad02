"""Hostile input: whatever comes over the socket costs a connection, never the service."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import json
import logging
import os
import re
import socket
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest
import redis

from tests.integration.gateway import (
    Gateway,
    build,
    encrypt,
    environ_for,
    listener,
    plain_body,
    running,
    serving,
    settings_for,
    sign,
)
from tests.integration.ingress_process import IngressProcess, assert_calm
from tests.redis_server import RedisServer, free_port
from tests.simulator.events import Request

BRIEF_S = 0.3  #: the limit under test, in place of 5 or 30 s
STEADY_S = 2.0  #: likewise, where nothing may be cut
LONG_S = 8.0  #: after that a connection counts as forgotten
PLATFORMS = ["dingtalk", "feishu"]


@pytest.fixture(scope="module")
def process(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[IngressProcess]:
    changes = {"PORT": str(free_port()), "HOST": "127.0.0.1", "SECURITY__QPS": "100000"}
    environ = environ_for(redis_server.url, **changes)
    made = IngressProcess(tmp_path_factory.mktemp("ingress"), {**environ, "LOG_LEVEL": "DEBUG"})
    yield made
    assert made.stop() == 0
    assert_calm(made.log.read_text("utf-8"))


@pytest.fixture
async def gateway(process: IngressProcess, redis_client: redis.Redis) -> AsyncIterator[Gateway]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        served = Gateway(process.port, session)
        yield served
        assert (await served.post(build("feishu"))).status == 200  # the service goes on
        assert (await served.get("/ready")).status == 200


def raw(request: Request, *more: str, version: str = "HTTP/1.1") -> bytes:
    """The bytes of a call on the wire."""
    path, headers, body = request
    given = {"Host": "gateway", "Content-Length": str(len(body)), **headers}
    lines = [f"POST {path} {version}", *(f"{k}: {v}" for k, v in given.items()), *more]
    return "\r\n".join([*lines, "", ""]).encode() + body


def head(request: Request, *more: str) -> bytes:
    """The same with headers of one's own choice about the body's length, without the body."""
    path, headers, _ = request
    lines = [f"POST {path} HTTP/1.1", "Host: gateway", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, *more, "", ""]).encode()


async def exchange(port: int, *pieces: bytes, half_close: bool = False) -> bytes:
    """Send the pieces; everything that comes until the gateway closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            if half_close:
                writer.write_eof()
        return await drained(reader)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def drained(reader: asyncio.StreamReader) -> bytes:
    got = b""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(LONG_S):
            while piece := await reader.read(65_536):
                got += piece
    return got


def statuses(answer: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer)]


NONSENSE = {
    "garbage": os.urandom(4096),
    "zeros": bytes(4096),
    "line feeds, then garbage": b"\r\n" * 500 + b"\xff\xfe\r\n\r\n",
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/9.9": b"POST /feishu/webhook HTTP/9.9\r\nHost: x\r\n\r\n",
    "no version": b"GET /health\r\n\r\n",
    "no host name, odd method": b"\x01\x02 / HTTP/1.1\r\n\r\n",
    "a header without a colon": b"GET /health HTTP/1.1\r\nnonsense\r\n\r\n",
    "a NUL in a header": b"GET /health HTTP/1.1\r\nHost: a\x00b\r\n\r\n",
    "a space in a name": b"GET /health HTTP/1.1\r\nHo st: a\r\n\r\n",
    "a huge header": b"GET /health HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 100_000 + b"\r\n\r\n",
    "a huge path": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "a header flood": b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"X-A: b\r\n" * 5000 + b"\r\n",
    "a negative length": b"POST /feishu/webhook HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    "a wordy length": b"POST /feishu/webhook HTTP/1.1\r\nHost: x\r\nContent-Length: ten\r\n\r\n",
    "two lengths": b"POST /feishu/webhook HTTP/1.1\r\nHost: x\r\n"
    b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "length and chunks": b"POST /feishu/webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an unknown coding": b"POST /feishu/webhook HTTP/1.1\r\nHost: x\r\n"
    b"Transfer-Encoding: cow\r\n\r\n0\r\n\r\n",
    "a bad chunk size": b"POST /feishu/webhook HTTP/1.1\r\nHost: x\r\n"
    b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
    "an endless chunk size": b"POST /feishu/webhook HTTP/1.1\r\nHost: x\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\nabc",
    "a chunk longer than it says": b"POST /feishu/webhook HTTP/1.1\r\nHost: x\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n2\r\nabcdef\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", NONSENSE)
async def test_nonsense_is_answered_400_at_most_and_its_connection_closed(
    name: str, gateway: Gateway
) -> None:
    answer = await exchange(gateway.port, NONSENSE[name], half_close=True)

    assert all(400 <= status < 500 for status in statuses(answer)), answer[:200]


@pytest.mark.parametrize("name", ["a huge header", "a header flood", "a bad chunk size"])
async def test_nonsense_ends_the_connection_without_the_clients_help(
    name: str, gateway: Gateway
) -> None:
    assert statuses(await exchange(gateway.port, NONSENSE[name])) == [400]


@pytest.mark.parametrize(
    "path",
    ["*", "//feishu//webhook", "/%00", "/feishu/webhook/%2e%2e", "/feishu/webhook/%ff", "/é"],
)
async def test_odd_paths_are_answered_4xx(path: str, gateway: Gateway) -> None:
    request = (path, {"Connection": "close"}, b"{}")

    (status,) = statuses(await exchange(gateway.port, raw(request)))

    assert 400 <= status < 500


async def test_odd_header_bytes_are_refused_as_a_wrong_signature(gateway: Gateway) -> None:
    path, headers, body = build("feishu")
    odd = {**headers, "X-Lark-Signature": "é\t☃", "Connection": "close"}

    assert statuses(await exchange(gateway.port, raw((path, odd, body)))) == [401]


async def test_http_1_0_is_served(gateway: Gateway) -> None:
    answer = await exchange(gateway.port, raw(build("feishu"), version="HTTP/1.0"))

    assert statuses(answer) == [200]


async def test_pipelined_calls_are_answered_in_their_order(gateway: Gateway) -> None:
    path, headers, body = build("dingtalk")
    wrong = (path, {**headers, "sign": "wrong"}, body)
    last = (path, {**headers, "Connection": "close"}, body)

    answer = await exchange(gateway.port, raw((path, headers, body)) + raw(wrong) + raw(last))

    assert statuses(answer) == [200, 401, 200]


async def test_a_client_that_expects_to_be_asked_is_asked(gateway: Gateway) -> None:
    path, headers, body = build("feishu")

    given = (path, {**headers, "Expect": "100-continue", "Connection": "close"}, body)

    assert statuses(await exchange(gateway.port, raw(given))) == [100, 200]


@pytest.mark.parametrize("sent", [0.0, 0.3, 0.6, 0.99, 1.0])
async def test_a_half_closed_connection_is_no_trouble(sent: float, gateway: Gateway) -> None:
    call = raw(build("feishu"))

    answer = await exchange(gateway.port, call[: int(len(call) * sent)], half_close=True)

    assert statuses(answer) in ([], [200], [400])


async def test_clients_that_hang_up_amid_their_call_are_no_trouble(gateway: Gateway) -> None:
    call = raw(build("feishu"))
    for size in range(1, len(call), 97):
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(call[:size])
        writer.transport.abort()


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "nonsense", "gzip, gzip"])
@pytest.mark.parametrize("platform", PLATFORMS)
async def test_a_compressed_body_is_never_unpacked(
    platform: str, coding: str, gateway: Gateway
) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    path, headers, body = sign(platform, bomb)

    answer = await gateway.post((path, {**headers, "Content-Encoding": coding}, body))

    assert answer.status == 400


async def test_the_body_counts_whatever_its_headers_say_of_it(gateway: Gateway) -> None:
    path, headers, body = sign("dingtalk", plain_body("dingtalk"))
    odd = {**headers, "Content-Type": "image/png; charset=utf-99", "Content-Encoding": "gzip"}

    assert (await gateway.post((path, odd, body))).status == 200


@pytest.fixture
async def brief(
    redis_server: RedisServer, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Gateway]:
    """A gateway that bears with slowness for 0.3 s alone."""
    for limit in ("__main__.IDLE", "connections.HEADER", "connections.ANSWER"):
        monkeypatch.setattr(f"ingress.{limit}_TIMEOUT_S", BRIEF_S)
    monkeypatch.setattr("ingress.connections.LOOK_S", BRIEF_S / 10)
    monkeypatch.setattr("ingress.webhook.BODY_TIMEOUT_S", BRIEF_S)
    async with running(settings_for(redis_server.url)) as served:
        yield served


@pytest.mark.parametrize(
    "start", [b"", b"POST", b"POST /feishu/webhook HTTP/1.1\r\nHost: x\r\nX-A: b\r\nX-"]
)
async def test_a_header_that_never_ends_is_not_waited_for(start: bytes, brief: Gateway) -> None:
    started = time.monotonic()

    answer = await exchange(brief.port, start)

    assert time.monotonic() - started < LONG_S
    assert statuses(answer) == []


@pytest.fixture
async def hasty(
    redis_server: RedisServer, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Gateway]:
    """A gateway that gives 0.3 s to a header and to the taking of an answer, not to idleness.

    What it can send ahead is little: the other side's not reading shows soon.
    """
    with listener() as narrow:
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        limit_connections(monkeypatch, BRIEF_S)
        async with serving(settings_for(redis_server.url), narrow) as served:
            yield served


@pytest.fixture
async def steady(
    redis_server: RedisServer, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Gateway]:
    """Likewise, with a limit that a busy machine's own slowness doesn't reach."""
    limit_connections(monkeypatch, STEADY_S)
    async with running(settings_for(redis_server.url)) as served:
        yield served


def limit_connections(monkeypatch: pytest.MonkeyPatch, limit_s: float) -> None:
    monkeypatch.setattr("ingress.connections.HEADER_TIMEOUT_S", limit_s)
    monkeypatch.setattr("ingress.connections.ANSWER_TIMEOUT_S", limit_s)
    monkeypatch.setattr("ingress.connections.LOOK_S", limit_s / 10)


async def cut(gateway: Gateway, reason: str) -> float | None:
    return await gateway.metric("clawdbot_ingress_connections_cut_total", reason=reason)


HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
LAST_HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("before", [0, 1])
async def test_a_header_that_drips_is_not_waited_for(before: int, hasty: Gateway) -> None:
    """The first of its connection, or a later one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", hasty.port)
    start = HEALTH * before + b"GET /health HTTP/1.1\r\nX-A: "
    dripping = asyncio.create_task(drip(writer, start, b"a"))

    answer = await drained(reader)

    assert dripping.cancel() or dripping.done()
    await asyncio.wait([dripping])
    writer.close()
    assert statuses(answer) == [200] * before
    assert reader.at_eof() or reader.exception()
    assert await cut(hasty, "slow_header") == 1


async def test_an_idle_connection_outlives_the_limit_of_a_header(steady: Gateway) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", steady.port)
    writer.write(HEALTH)
    await reader.readuntil(b"ok")
    await asyncio.sleep(1.5 * STEADY_S)  # nothing happens, which can't be waited for
    writer.write(LAST_HEALTH)

    assert statuses(await drained(reader)) == [200]
    assert await cut(steady, "slow_header") == 0
    writer.close()


async def test_a_body_has_its_own_time(steady: Gateway) -> None:
    request = build("feishu")
    body = request[2]
    reader, writer = await asyncio.open_connection("127.0.0.1", steady.port)
    writer.write(head(request, f"Content-Length: {len(body)}", "Connection: close"))
    for start in range(0, len(body), len(body) // 4):
        await asyncio.sleep(STEADY_S / 2)
        writer.write(body[start : start + len(body) // 4])

    assert statuses(await drained(reader)) == [200]
    writer.close()


async def test_answers_that_nobody_takes_are_not_kept_for_ever(hasty: Gateway) -> None:
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(deaf, ("127.0.0.1", hasty.port))
        asking = asyncio.create_task(loop.sock_sendall(deaf, HEALTH * 200_000))
        async with asyncio.timeout(60):
            while not await cut(hasty, "answer_not_taken"):
                await asyncio.sleep(0.1)
        await asyncio.wait([asking])
        assert isinstance(asking.exception(), ConnectionError)


@pytest.mark.parametrize("proxies", ["", "127.0.0.1"])
async def test_an_address_holds_so_many_connections_unless_it_is_a_proxy(
    proxies: str, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingress.connections.CONNECTIONS_PER_ADDRESS", 3)
    async with running(
        settings_for(redis_server.url, SECURITY__TRUSTED_PROXIES=proxies)
    ) as gateway:
        held = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(3)]
        for reader, writer in held:
            writer.write(HEALTH)
            await reader.readuntil(b"ok")

        got = await exchange(gateway.port, LAST_HEALTH)
        assert statuses(got) == ([200] if proxies else [])

        held[0][1].close()
        async with asyncio.timeout(LONG_S):
            while not await exchange(gateway.port, LAST_HEALTH):
                await asyncio.sleep(0.02)
        for _, writer in held:
            writer.close()


async def drip(writer: asyncio.StreamWriter, start: bytes, more: bytes) -> None:
    writer.write(start)
    with contextlib.suppress(ConnectionError):
        while not writer.is_closing():
            writer.write(more)
            await writer.drain()
            await asyncio.sleep(0.05)


async def test_an_idle_connection_is_closed_after_its_call(brief: Gateway) -> None:
    answer = await exchange(brief.port, raw(build("feishu")))

    assert statuses(answer) == [200]


@pytest.mark.parametrize("length", ["Content-Length: 500", "Transfer-Encoding: chunked"])
async def test_a_slow_body_is_answered_408(length: str, brief: Gateway) -> None:
    answer = await exchange(brief.port, head(build("feishu"), length))

    assert statuses(answer) == [408]
    assert b'{"error": "slow_body"}' in answer
    assert await brief.outcome("feishu", "slow_body") == 1


async def test_only_messages_of_the_platform_count_as_acknowledged(brief: Gateway) -> None:
    request = build("feishu")
    path, headers, body = request
    strangers = [
        await exchange(brief.port, head(request, "Content-Length: 500")),
        await exchange(brief.port, raw((path, {**headers, "X-Lark-Signature": "0" * 64}, body))),
    ]
    ignored = sign("feishu", plain_body("feishu") | {"event": {}})

    answers = [await brief.post(each) for each in (request, request, ignored)]

    assert [statuses(answer) for answer in strangers] == [[408], [401]]
    assert [answer.status for answer in answers] == [200] * 3
    assert await brief.outcome("feishu", "malformed_event") == 1
    assert await brief.metric("clawdbot_ingress_ack_seconds_count", platform="feishu") == 2


async def test_a_body_that_turns_to_nonsense_is_refused_in_the_same_time(brief: Gateway) -> None:
    start = head(build("feishu"), "Transfer-Encoding: chunked")

    answer = await exchange(brief.port, start + b"2\r\n{}\r\n", b"zz\r\nabc\r\n")

    assert statuses(answer) in ([400], [408])


async def test_a_body_that_drips_has_the_same_time_in_all(brief: Gateway) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", brief.port)
    start = head(build("feishu"), "Content-Length: 5000")
    dripping = asyncio.create_task(drip(writer, start, b"a"))

    answer = await drained(reader)

    dripping.cancel()
    await asyncio.wait([dripping])
    writer.close()
    assert statuses(answer) == [408]


async def test_a_bug_of_ours_stays_an_error_and_a_strangers_bytes_are_a_refusal(
    brief: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def buggy(*_: Any) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr("ingress.health.live_workers", buggy)
    with caplog.at_level(logging.INFO):
        await exchange(brief.port, NONSENSE["a header flood"])
        assert (await brief.get("/ready")).status == 500

    (error,) = (record for record in caplog.records if record.name == "aiohttp.server")
    (refused,) = (record for record in caplog.records if record.message == "request.refused")
    assert (refused.metadata["reason"], refused.exc_info) == ("bad_http", None)  # type: ignore[attr-defined]
    assert error.levelname == "ERROR"
    assert error.exc_info


async def test_slow_clients_don_t_hold_up_the_others(brief: Gateway) -> None:
    calls = [exchange(brief.port, head(build("feishu"), "Content-Length: 9")) for _ in range(50)]
    slow = asyncio.gather(*calls)

    answer = await brief.post(build("feishu"))

    assert answer.status == 200
    assert {tuple(statuses(got)) for got in await slow} == {(408,)}


ODD_VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    1e308,
    10**30,
    "",
    " ",
    "\x00",
    "\ud800",
    "x" * 300,
    "a:b",
    "🜁" * 50,
    [],
    [None],
    {},
    {"a": []},
    [[[[]]]],
]
ODD_PLACES = {
    "dingtalk": [
        ("msgId",),
        ("msgtype",),
        ("text",),
        ("text", "content"),
        ("conversationId",),
        ("conversationType",),
        ("senderId",),
        ("senderStaffId",),
        ("sessionWebhook",),
        ("sessionWebhookExpiredTime",),
        ("createAt",),
        ("robotCode",),
        ("errorCode",),
    ],
    "feishu": [
        ("header",),
        ("header", "event_id"),
        ("header", "event_type"),
        ("header", "token"),
        ("header", "app_id"),
        ("event",),
        ("event", "sender"),
        ("event", "sender", "sender_id"),
        ("event", "message"),
        ("event", "message", "message_id"),
        ("event", "message", "chat_id"),
        ("event", "message", "content"),
        ("event", "message", "mentions"),
        ("event", "message", "create_time"),
    ],
}
ODD_BODIES = [
    b"",
    b" ",
    b"null",
    b"[]",
    b"{}",
    b"NaN",
    b"{",
    b'{"a":}',
    b"\xef\xbb\xbf{}",
    b"\xff\xfe{\x00}\x00",
    b'{"a":"\xc3\x28"}',
    b'{"a":1e999}',
    b'{"a":' + b"9" * 5000 + b"}",
    b"[" * 100_000,
    b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    b'{"encrypt":null}',
    b'{"encrypt":""}',
    b'{"encrypt":"AAAA"}',
    b'{"encrypt":"%s"}' % base64.b64encode(bytes(64)),
    b'{"encrypt":{"a":1}}',
    b'{"type":"url_verification"}',
    b'{"type":"url_verification","challenge":{}}',
]


def odd_requests(platform: str) -> list[Request]:
    """Calls that are correctly signed and hold what nobody expects."""
    requests = [sign(platform, body) for body in ODD_BODIES]
    if platform == "feishu":
        requests += [sign(platform, encrypt(body)) for body in ODD_BODIES]
    for place in ODD_PLACES[platform]:
        for value in ODD_VALUES:
            body: Any = plain_body(platform)
            branch = body
            for name in place[:-1]:
                branch = branch[name]
            branch[place[-1]] = value
            plain = json.dumps(body).encode()  # lone surrogates as escapes
            requests.append(sign(platform, encrypt(plain) if platform == "feishu" else plain))
    return requests


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_odd_bodies_that_are_correctly_signed_never_cause_a_5xx(
    platform: str, gateway: Gateway
) -> None:
    requests = odd_requests(platform)
    answers = [await gateway.post(request) for request in requests]

    assert len(requests) >= 150
    assert {answer.status for answer in answers} <= {200, 400, 401}
    assert await gateway.outcome(platform, "bug") is None
