"""Who may call, and how much: lists, proxies and limits over real connections."""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import redis
from aiohttp import web

from ingress.__main__ import make_runner
from ingress.addresses import client_address
from ingress.door import DOOR
from ingress.guard import Guard
from shared.config.groups import Security
from tests.integration.gateway import (
    Answer,
    Gateway,
    build,
    listener,
    running,
    serving,
    settings_for,
)
from tests.redis_server import RedisServer
from tests.simulator.events import Request

PLATFORMS = ["dingtalk", "feishu"]
ELSEWHERE = "203.0.113.0/24,2001:db8::/32"
CLIENT = "203.0.113.9"
FORWARDED = "X-Forwarded-For"


@pytest.fixture
def redis_url(redis_server: RedisServer, redis_client: redis.Redis) -> str:
    return redis_server.url


def listing(platform: str, cidrs: str, **more: str) -> dict[str, str]:
    return {f"SECURITY__ALLOW_CIDRS__{platform.upper()}": cidrs, **more}


def through(platform: str, *hops: str, **more: Any) -> Request:
    """A signed call that says it comes from elsewhere."""
    path, headers, body = build(platform, **more)
    return path, {**headers, FORWARDED: ", ".join(hops)}, body


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_who_is_not_listed_is_refused_whatever_he_signed(
    platform: str, redis_url: str, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(settings_for(redis_url, **listing(platform, ELSEWHERE))) as gateway:
        answer = await gateway.post(build(platform))

        assert (answer.status, answer.json()) == (403, {"error": "address"})
        assert answer.headers["Connection"] == "close"
        assert await gateway.outcome(platform, "address") == 1
        assert [(await gateway.get(p)).status for p in ("/health", "/ready", "/metrics")] == [
            200
        ] * 3
    assert redis_client.keys("*:event:*") == []
    (line,) = [r for r in caplog.records if r.getMessage() == "request.refused"]
    assert line.metadata == {  # type: ignore[attr-defined]
        "log": "auth",
        "platform": platform,
        "bot": "default",
        "reason": "address",
        "address": "127.0.0.1",
    }


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("cidrs", ["127.0.0.1", "127.0.0.0/8", "::ffff:127.0.0.0/104", "0.0.0.0/0"])
async def test_who_is_listed_is_let_in(platform: str, cidrs: str, redis_url: str) -> None:
    settings = settings_for(redis_url, **listing(platform, f"{ELSEWHERE},{cidrs}"))
    async with running(settings) as gateway:
        assert (await gateway.post(build(platform))).status == 200


async def test_a_list_is_for_its_platform_alone(redis_url: str) -> None:
    async with running(settings_for(redis_url, **listing("feishu", ELSEWHERE))) as gateway:
        assert (await gateway.post(build("feishu"))).status == 403
        assert (await gateway.post(build("dingtalk"))).status == 200


async def test_the_body_of_who_is_not_listed_is_not_waited_for(redis_url: str) -> None:
    async with running(settings_for(redis_url, **listing("feishu", ELSEWHERE))) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(b"POST /feishu/webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")

        async with asyncio.timeout(4):  # the body would have 5 s
            answer = await reader.read()

        assert answer.startswith(b"HTTP/1.1 403 ")
        writer.close()


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_a_stranger_can_t_talk_himself_into_the_list(platform: str, redis_url: str) -> None:
    headers = (FORWARDED, "Forwarded", "X-Real-IP", "X-Client-IP", "True-Client-IP", "Via")
    async with running(settings_for(redis_url, **listing(platform, ELSEWHERE))) as gateway:
        for name in headers:
            path, given, body = build(platform)
            value = f"for={CLIENT}" if name == "Forwarded" else CLIENT
            answer = await gateway.post((path, {**given, name: value}, body))
            assert answer.status == 403, name


BEHIND_PROXY = {"SECURITY__TRUSTED_PROXIES": "127.0.0.1, 10.0.0.0/8"}


@pytest.mark.parametrize(
    ("hops", "status"),
    [
        ([CLIENT], 200),
        ([f"{CLIENT}:4711"], 200),
        ([f"::ffff:{CLIENT}"], 200),
        (["[2001:db8::5]:4711"], 200),
        (["198.51.100.1", CLIENT, "10.0.0.1"], 200),
        (["198.51.100.1"], 403),
        ([CLIENT, "198.51.100.1"], 403),
        ([CLIENT, "198.51.100.1", "10.0.0.1"], 403),
        ([CLIENT, "unknown"], 403),
        ([CLIENT, "unknown", "10.0.0.1"], 403),
        (["10.0.0.1"], 403),
        ([], 403),
    ],
)
async def test_behind_a_proxy_its_client_is_who_is_listed(
    hops: list[str], status: int, redis_url: str
) -> None:
    settings = settings_for(redis_url, **listing("feishu", ELSEWHERE, **BEHIND_PROXY))
    async with running(settings) as gateway:
        assert (await gateway.post(through("feishu", *hops))).status == status


async def test_a_refusal_s_line_tells_a_forwarded_call_from_a_believed_one(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(settings_for(redis_url)) as gateway:
        await gateway.post((*through("feishu", CLIENT)[:2], b"{}"))
    async with running(settings_for(redis_url, **BEHIND_PROXY)) as gateway:
        await gateway.post((*through("feishu", CLIENT)[:2], b"{}"))

    lines = [r.metadata for r in caplog.records if r.getMessage() == "request.refused"]  # type: ignore[attr-defined]
    assert [(line["address"], line["peer"]) for line in lines] == [
        ("127.0.0.1", "127.0.0.1"),
        (CLIENT, "127.0.0.1"),
    ]


async def post(
    url: str, request: Request, connector: aiohttp.BaseConnector | None = None
) -> Answer:
    path, headers, body = request
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.post(url + path, data=body, headers=headers) as response,
    ):
        return Answer(response.status, response.headers.copy(), await response.read())


@pytest.mark.parametrize(
    ("host", "cidrs", "status"),
    [
        ("127.0.0.1", "127.0.0.1", 200),
        ("127.0.0.1", "::/0", 403),
        ("[::1]", "::1", 200),
        ("[::1]", "0.0.0.0/0", 403),
    ],
)
async def test_a_socket_of_both_families_tells_ipv4_from_ipv6(
    host: str, cidrs: str, status: int, redis_url: str
) -> None:
    """There an IPv4 peer is ::ffff:127.0.0.1."""
    settings = settings_for(redis_url, **listing("feishu", cidrs))
    with listener(socket.AF_INET6, ("::", 0)) as both:
        async with serving(settings, both) as gateway:
            url = f"http://{host}:{gateway.port}"
            assert (await post(url, build("feishu"))).status == status


async def test_a_peer_over_a_unix_socket_is_nobody_s_address(
    redis_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = str(tmp_path / "s")
    for cidrs, status in (("", 200), ("0.0.0.0/0,::/0", 403)):
        settings = settings_for(redis_url, **listing("feishu", cidrs, **BEHIND_PROXY))
        with listener(socket.AF_UNIX, path) as local:
            async with serving(settings, local):
                unix = aiohttp.UnixConnector(path)
                answer = await post("http://gateway", through("feishu", CLIENT), unix)
        Path(path).unlink()
        assert answer.status == status
    (line,) = [r for r in caplog.records if r.getMessage() == "request.refused"]
    assert line.metadata["address"] == "unix"  # type: ignore[attr-defined]


async def test_lists_proxies_and_rate_change_while_it_runs(redis_url: str) -> None:
    listed = {"allow_cidrs": {"feishu": [CLIENT]}}
    async with running(settings_for(redis_url)) as gateway:
        assert gateway.app is not None
        door = gateway.app[DOOR]

        def change(**values: Any) -> None:
            security = Security.model_validate(values)
            door._settings = lambda: security  # as when the configuration centre changed it

        assert (await gateway.post(build("feishu"))).status == 200

        change(**listed)
        assert (await gateway.post(through("feishu", CLIENT))).status == 403

        change(**listed, trusted_proxies="127.0.0.1")
        assert (await gateway.post(through("feishu", CLIENT))).status == 200

        change(address_qps=1)
        answers = [(await gateway.post(build("feishu"))).status for _ in range(10)]
        assert 429 in answers


@pytest.mark.parametrize("proxies", ["", "127.0.0.1"])
async def test_handlers_can_ask_for_the_address(proxies: str, redis_url: str) -> None:
    async def tell(request: web.Request) -> web.Response:
        return web.Response(text=client_address(request))

    runner = make_runner(settings_for(redis_url, SECURITY__TRUSTED_PROXIES=proxies))
    runner.app.router.add_get("/who", tell)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as session:
        gateway = Gateway(runner.addresses[0][1], session)
        plain = await gateway.get("/who")
        forwarded = await gateway.call("GET", "/who", headers={FORWARDED: CLIENT})
    await runner.cleanup()
    assert plain.body == b"127.0.0.1"
    assert forwarded.body.decode() == (CLIENT if proxies else "127.0.0.1")


SLOWLY = {"SECURITY__ADDRESS_QPS": "20"}


async def test_an_address_that_calls_too_much_is_told_to_wait(
    redis_url: str, redis_client: redis.Redis
) -> None:
    async with running(settings_for(redis_url, **SLOWLY, DINGTALK__BUSY_REPLY="true")) as gateway:
        calls = [gateway.post(build("dingtalk", conversation=f"c{n}")) for n in range(100)]
        answers = await asyncio.gather(*calls)

        refused = [answer for answer in answers if answer.status == 429]
        assert 20 <= 100 - len(refused) < 100
        for answer in refused:
            assert answer.json() == {"error": "address_limited"}
            assert answer.headers["Retry-After"] == "1"
        assert await gateway.outcome("dingtalk", "address_limited") == len(refused)
        assert len(redis_client.keys("*:event:*")) == 100 - len(refused)


async def test_who_guesses_is_slowed_down_before_who_is_honest(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingress.door.Guard", partial(Guard, clock=lambda: 0.0))
    settings = settings_for(redis_url, **SLOWLY, **BEHIND_PROXY)
    async with running(settings) as gateway:
        path, _, body = build("feishu")
        guess = (path, {FORWARDED: "198.51.100.1"}, body)
        guesses = [(await gateway.post(guess)).status for _ in range(15)]
        honest = [(await gateway.post(through("feishu", CLIENT))).status for _ in range(15)]
        assert (await gateway.post((path, {FORWARDED: CLIENT}, body))).status == 401
        honest += [(await gateway.post(through("feishu", CLIENT))).status for _ in range(3)]

    assert guesses == [401] * 2 + [429] * 13
    assert set(honest) == {200}


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_probes_are_not_counted(platform: str, redis_url: str) -> None:
    async with running(settings_for(redis_url, SECURITY__ADDRESS_QPS="1")) as gateway:
        probes = [(await gateway.get("/health")).status for _ in range(20)]
        answer = await gateway.post(build(platform))

    assert set(probes) == {200}
    assert answer.status == 200
