"""A caller's `traceparent` is kept in the event's record, or ignored; nobody is refused for it."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis

from shared.messages import Event, digest
from shared.state.keys import BotKeys
from tests.integration.gateway import CREDENTIALS, Gateway, build, running, settings_for
from tests.redis_server import RedisServer
from tests.simulator import credentials as names

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"
BOT = BotKeys("feishu", CREDENTIALS[names.FEISHU_APP_ID])


@pytest.fixture
async def gateway(redis_server: RedisServer, redis_client: redis.Redis) -> AsyncIterator[Gateway]:
    async with running(settings_for(redis_server.url)) as started:
        yield started


async def accepted(gateway: Gateway, client: redis.Redis, *headers: tuple[str, str]) -> Event:
    """The event as its record has it."""
    path, given, body = build("feishu", message_id="om_1")
    answer = await gateway.call(
        "POST", path, data=body, headers=[*given.items(), *headers], skip_auto_headers=["Accept"]
    )
    assert answer.status == 200
    record = client.hgetall(BOT.event(digest(BOT.platform, BOT.app_id, "om_1")))
    return Event.from_wire(record["event"], str)


async def test_a_traceparent_goes_into_the_record(
    gateway: Gateway, redis_client: redis.Redis
) -> None:
    event = await accepted(
        gateway,
        redis_client,
        ("TraceParent", PARENT),
        ("tracestate", "rojo=1"),
        ("tracestate", "congo=2"),
    )

    assert (event.traceparent, event.tracestate) == (PARENT, "rojo=1,congo=2")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("tracestate", "rojo=1")],
        [("traceparent", "rubbish"), ("tracestate", "rojo=1")],
        [("traceparent", PARENT), ("traceparent", PARENT)],
        [("traceparent", "x" * 4000)],
        [("traceparent", "")],
    ],
    ids=str,
)
async def test_rubbish_is_ignored_and_the_message_taken(
    headers: list[tuple[str, str]], gateway: Gateway, redis_client: redis.Redis
) -> None:
    event = await accepted(gateway, redis_client, *headers)

    assert (event.traceparent, event.tracestate) == ("", "")


async def test_the_log_leads_from_the_callers_trace_to_ours(
    gateway: Gateway, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="ingress"):
        await accepted(gateway, redis_client, ("traceparent", PARENT))

    told: list[Any] = [r.__dict__["metadata"] for r in caplog.records]
    assert [json.loads(json.dumps(facts))["w3c_trace_id"] for facts in told] == [TRACE_ID]
