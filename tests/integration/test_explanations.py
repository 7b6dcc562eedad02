"""`LOG_LEVEL=DEBUG`: a refused call is explained step by step; at INFO nothing is worked out."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis

from shared.logs import LineFormatter
from tests.integration.gateway import CREDENTIALS, Gateway, build, running, settings_for
from tests.redis_server import RedisServer
from tests.simulator.events import Request

PLATFORMS = ["dingtalk", "feishu"]
SIGNATURES = {"dingtalk": "sign", "feishu": "X-Lark-Signature"}


@pytest.fixture
async def gateway(redis_server: RedisServer, redis_client: redis.Redis) -> AsyncIterator[Gateway]:
    async with running(settings_for(redis_server.url)) as started:
        yield started


def tampered(platform: str) -> Request:
    """An authentic call whose signature was cut short."""
    path, headers, body = build(platform, text="what a person wrote")
    name = next(n for n in headers if n.lower() == SIGNATURES[platform].lower())
    return path, {**headers, name: headers[name][:-4]}, body


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    formatter = LineFormatter("ingress")
    return [json.loads(formatter.format(record)) for record in caplog.records]


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_a_refused_call_is_explained_without_what_is_secret(
    platform: str, gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    request = tampered(platform)
    with caplog.at_level(logging.DEBUG, logger="ingress"):
        answer = await gateway.post(request)

    assert (answer.status, answer.json()) == (401, {"error": "signature"})
    told = [line["metadata"] for line in lines(caplog) if line["message"] == "refusal.explained"]
    assert {(facts["platform"], facts["bot"]) for facts in told} == {(platform, "default")}
    assert len({facts["call"] for facts in told}) == 1
    (signature,) = [facts for facts in told if facts["step"] == "signature"]
    assert not signature["passed"]
    assert signature["facts"]["matched"] == -1
    assert signature["facts"]["signed_text_fingerprints"] != "***"
    assert {facts["step"] for facts in told if facts["passed"]} >= {"timestamp"}
    everything = caplog.text + json.dumps(lines(caplog))
    for secret in [*CREDENTIALS.values(), *request[1].values(), "what a person wrote"]:
        assert len(secret) < 12 or secret not in everything or secret in PUBLIC


PUBLIC = {value for name, value in CREDENTIALS.items() if name.endswith(("_ID", "ROBOT_CODE"))}


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_at_info_a_refusal_is_one_line(
    platform: str, gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="ingress"):
        await gateway.post(tampered(platform))

    assert [line["message"] for line in lines(caplog)] == ["request.refused"]


async def test_an_accepted_call_is_not_explained(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="ingress"):
        await gateway.post(build("feishu"))

    assert "refusal.explained" not in [line["message"] for line in lines(caplog)]
