"""`clawdbot doctor` and what an ingress says to its rehearsal."""

from __future__ import annotations

import asyncio
import json
from typing import cast

import pytest

from tests.integration.doctor import Doctor, http
from tests.integration.gateway import build, running, settings_for
from tests.integration.slow_server import sending, serving
from tests.redis_server import RedisServer
from workers.ops.context import Operator
from workers.ops.doctor.checks.rehearsal import _outcome

REFUSALS = [
    ("401 Unauthorized", "failed", "these settings"),
    ("403 Forbidden", "warning", "allow_cidrs.feishu"),
    ("429 Too Many Requests", "failed", "takes no messages in"),
    ("503 Service Unavailable", "failed", "takes no messages in"),
    ("404 Not Found", "failed", "does not know this bot"),
    ("200 OK", "failed", "another program"),
]


@pytest.mark.parametrize(("answer", "status", "words"), REFUSALS)
def test_a_rehearsal_that_is_not_let_in_says_why(
    answer: str, status: str, words: str, doctor: Doctor
) -> None:
    with serving(sending(http(answer))) as server:
        report = doctor.look("rehearsal", PORT=str(server.port))

    (finding,) = [f for f in report.findings("rehearsal") if f["seen"].startswith("feishu")]
    assert finding["status"] == status
    assert words in json.dumps(finding)


async def test_a_rehearsal_that_gets_a_busy_reply_says_so(
    doctor: Doctor, redis_server: RedisServer
) -> None:
    full = {"DINGTALK__BUSY_REPLY": "true", "ASYNC_PROCESSING__QUEUE_CAPACITY": "1"}
    async with running(settings_for(redis_server.url, **full)) as gateway:
        assert (await gateway.post(build("dingtalk"))).status == 200
        named = ("--ingress", gateway.url)
        report = await asyncio.to_thread(doctor.look, "rehearsal", more=named)

    (finding,) = [f for f in report.findings("rehearsal") if f["seen"].startswith("dingtalk")]
    assert "busy reply" in finding["seen"]
    assert "takes no messages in" in finding["means"]


@pytest.mark.parametrize("code", ["bot:unknown", "vault:unreadable"])
def test_a_rehearsal_that_workers_can_t_read_is_a_fault_of_settings_before_it_dies(
    code: str, redis_server: RedisServer
) -> None:
    bot = settings_for(redis_server.url).all_bots()[0]
    failed = {"ms": 2, "what": f"process, attempt 1 by w: {code}: …", "code": code}
    way = {"fate": "waiting for the model", "steps": [{"ms": 1, "what": "accepted"}, failed]}

    finding = _outcome(cast(Operator, None), bot, way, took_ms=1.0)

    assert finding.status == "failed"
    assert code in finding.seen
    assert "give ingress and workers the same settings" in finding.cure
