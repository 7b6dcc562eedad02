"""The QPS limit: exact over several ingress processes, and only what is accepted counts."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest
import redis

from tests.integration.gateway import Answer, Gateway, build, environ_for
from tests.integration.ingress_process import IngressProcess
from tests.redis_server import RedisServer, free_port

QPS = 25
FULL_SECONDS = 2


class Call(NamedTuple):
    """seconds: in which it was under way, by the clock that Redis has, too."""

    answer: Answer
    seconds: range


@pytest.fixture
def processes(redis_server: RedisServer, tmp_path: Path) -> Iterator[list[IngressProcess]]:
    with ExitStack() as started:
        made = []
        for n in range(3):
            changes = {"PORT": str(free_port()), "HOST": "127.0.0.1", "SECURITY__QPS": str(QPS)}
            environ = environ_for(redis_server.url, **changes, SECURITY__ADDRESS_QPS="100000")
            (tmp_path / str(n)).mkdir()
            made.append(IngressProcess(tmp_path / str(n), environ))
            started.callback(made[-1].stop)
        yield made


async def call_until(done: asyncio.Event, gateway: Gateway, platform: str) -> list[Call]:
    """Call again and again, each time with a new message and the one of before."""
    calls = []
    while not done.is_set():
        request = build(platform)
        for _ in range(2):
            began = int(time.time())
            answer = await gateway.post(request)
            calls.append(Call(answer, range(began, int(time.time()) + 1)))
    return calls


async def test_the_limit_is_exact_over_several_processes(
    processes: list[IngressProcess], redis_client: redis.Redis
) -> None:
    done = asyncio.Event()
    async with aiohttp.ClientSession() as session:
        calling = [
            asyncio.create_task(call_until(done, Gateway(process.port, session), platform))
            for process in processes
            for platform in ("dingtalk", "feishu")
        ]
        async with asyncio.timeout(60):
            while list(accepted_by_second(redis_client).values()).count(QPS) < FULL_SECONDS:
                await asyncio.sleep(0.1)
        done.set()
        calls = [call for each in calling for call in await each]

    by_second = accepted_by_second(redis_client)
    assert max(by_second.values()) == QPS, by_second
    refused = [call for call in calls if call.answer.status == 429]
    assert refused
    assert {(c.answer.headers["Retry-After"], c.answer.body) for c in refused} == {
        ("1", b'{"error": "rate_limited"}')
    }
    assert all(QPS in (by_second[second] for second in call.seconds) for call in refused)
    assert {call.answer.status for call in calls} == {200, 429}


def accepted_by_second(client: redis.Redis) -> Counter[int]:
    """Events by the second of Redis's clock in which they were accepted."""
    names = client.keys("*:event:*")
    with client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.hget(name, "accepted")
        return Counter(int(ms) // 1000 for ms in pipe.execute())
