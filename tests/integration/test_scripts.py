"""Scripts of a server that forgets them again and again, between any two commands."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from ingress import redis_client as ingress_redis
from ingress.bots import build_bots
from ingress.inbox import Inbox, Limits
from shared.envelope import hint_templates
from tests.integration.gateway import settings_for
from tests.integration.lanes import Bench, event
from tests.redis_server import RedisServer
from workers.redis_client import connect
from workers.store import Lanes


def forgetting(call: Any, server: redis.Redis) -> Any:
    """`call`, by a server that has forgotten every script a moment before."""

    def flush_and_call(*args: Any) -> Any:
        server.script_flush()
        return call(*args)

    return flush_and_call


def test_a_worker_claims_and_settles(
    redis_server: RedisServer, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = event()
    bench.accept(first)
    client = connect(settings_for(redis_server.url), max_connections=1)
    monkeypatch.setattr(client, "evalsha", forgetting(client.evalsha, bench.client))
    lanes = Lanes(client, owner="w@host/1", templates=hint_templates())

    bench.write_back(bench.claim(first, lanes))
    lanes.settle(bench.claim_reply(first, lanes), next_part=1, parts=1)

    assert bench.counts() == {"accepted": 1, "answered": 1}
    client.close()


async def test_an_ingress_accepts(
    redis_server: RedisServer, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(redis_server.url)
    client = ingress_redis.connect(settings)
    monkeypatch.setattr(client, "evalsha", forgetting(client.evalsha, bench.client))
    bot = build_bots(settings)["feishu", "default"]
    accepting = Inbox(client, hint_templates(), Limits(qps=lambda: 0, queue_capacity=100))
    first = event(conversation="oc_flushed")

    assert await accepting.accept(bot, first) == "accepted"

    assert bench.client.llen(bot.keys.inbox("oc_flushed")) == 1
    await client.aclose()
