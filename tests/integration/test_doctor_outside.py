"""`clawdbot doctor` on what others reach: the public address, and Flower."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address

import pytest
from aiohttp import web

from tests.integration.doctor import Doctor, http
from tests.integration.gateway import Gateway, running, settings_for
from tests.integration.slow_server import sending, serving
from tests.redis_server import RedisServer, free_port
from workers.ops.doctor.own_address import own_addresses


def test_without_a_public_url_there_is_nothing_to_look_at(doctor: Doctor) -> None:
    assert doctor.look("public").statuses("public") == ["skipped"]


def test_an_address_that_leads_nowhere_is_told(doctor: Doctor) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    report = doctor.look("public", PUBLIC_URL=url)

    assert report.exit_code == 1
    assert "not encrypted" in report.only("public", "warning")["seen"]
    assert sorted(report.statuses("public")) == ["failed", "failed", "warning"]
    assert "can't connect" in json.dumps(report.findings("public"))


@asynccontextmanager
async def proxy(gateway: Gateway) -> AsyncIterator[str]:
    """Passes the webhooks on and nothing else, as the documents' nginx does."""

    async def forward(request: web.Request) -> web.Response:
        body = await request.read()
        answer = await gateway.call(request.method, request.path, data=body)
        return web.Response(status=answer.status, body=answer.body)

    app = web.Application()
    app.router.add_route("*", "/{platform:dingtalk|feishu}/webhook", forward)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port := free_port()).start()
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(("allowed", "status"), [("", "401"), ("192.0.2.0/24", "403")])
async def test_a_proxy_that_passes_the_webhooks_alone_is_right(
    allowed: str, status: str, doctor: Doctor, redis_server: RedisServer
) -> None:
    lists = {f"SECURITY__ALLOW_CIDRS__{name}": allowed for name in ("DINGTALK", "FEISHU")}
    async with running(settings_for(redis_server.url, **lists)) as gateway, proxy(gateway) as url:
        report = await asyncio.to_thread(doctor.look, "public", PUBLIC_URL=url)

    assert sorted(report.statuses("public")) == ["ok", "ok", "warning"]  # it is not encrypted
    assert json.dumps(report.findings("public")).count(f"(HTTP {status})") == 2


NOT_THE_INGRESS = [
    http("200 OK", '{"status":"ok"}'),
    http("404 Not Found"),
    http("401 Unauthorized", "<html>"),
    http("403 Forbidden", '{"error":"forbidden","request":"1"}'),
]


@pytest.mark.parametrize("answer", NOT_THE_INGRESS, ids=["open", "lost", "page", "look_alike"])
def test_an_address_where_the_ingress_does_not_answer_is_told(
    answer: bytes, doctor: Doctor
) -> None:
    with serving(sending(answer)) as server:
        report = doctor.look("public", PUBLIC_URL=f"http://127.0.0.1:{server.port}")

    assert report.statuses("public").count("failed") == 2
    assert f"HTTP {answer[9:12].decode()}, and not as the ingress" in json.dumps(report.value)


def test_without_bots_nobody_is_called_from_outside(doctor: Doctor) -> None:
    bare = {n: "" for n in doctor.environ if n.startswith(("CLAWDBOT_DING", "CLAWDBOT_FEISHU"))}
    report = Doctor({**doctor.environ, **bare}).look("public", PUBLIC_URL="https://bot.example")

    assert report.statuses("public") == ["skipped"]


FLOWERS = [
    (http("401 Unauthorized", "{}", "Server: TornadoServer/6.5"), "ok", "asks for a password"),
    (http("200 OK", "{}", "Server: TornadoServer/6.5"), "ok", "on this machine only"),
    (http("200 OK", "{}", "Server: nginx"), "skipped", "is not Flower"),
]


@pytest.mark.parametrize(("answer", "status", "words"), FLOWERS)
def test_flower_is_looked_at(answer: bytes, status: str, words: str, doctor: Doctor) -> None:
    with serving(sending(answer)) as server:
        report = doctor.look("flower", more=("--flower", f"http://127.0.0.1:{server.port}"))

    assert words in report.only("flower", status)["seen"]


@pytest.mark.skipif(not own_addresses(), reason="this machine has no network")
def test_flower_that_others_reach_without_a_password_is_warned_of(doctor: Doctor) -> None:
    with serving(sending(FLOWERS[1][0]), host="0.0.0.0") as server:
        report = doctor.look("flower", more=("--flower", f"http://127.0.0.1:{server.port}"))

    seen = report.only("flower", "warning")["seen"]
    assert f"others reach port {server.port} at {own_addresses()[0]}" in seen


def test_own_addresses_are_those_that_others_see() -> None:
    assert not any(ip_address(found).is_loopback for found in own_addresses())


def test_flower_need_not_be_there(doctor: Doctor) -> None:
    report = doctor.look("flower", more=("--flower", f"http://127.0.0.1:{free_port()}"))

    assert (report.exit_code, report.statuses("flower")) == (0, ["skipped"])
