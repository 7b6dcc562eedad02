"""Redis frozen, or gone for ten seconds: refused at once meanwhile, nothing lost, no secret told.

This stack has a worker on every pool and logs at DEBUG: what its processes write is searched for
secrets in the end, and held against the index template.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest

from shared.state import keys
from tests.contract.elastic import faults, ingested, properties, unmapped
from tests.e2e.stack import Stack, Worker
from tests.e2e.talk import Talk, deliver, eventually, new_chat
from tests.simulator import credentials
from tests.simulator.client import SignedClient

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

PLATFORMS = ["dingtalk", "feishu"]
WORKERS = [
    Worker("process", "process", "threads", 8),
    Worker("push", "push", "prefork", 2),
    Worker("both", "process,push", "gevent", 8),
]
OUTAGE_S = 10
ANSWER_LIMIT_S = 2.0  #: a refusal takes 0.8 s; Feishu waits 3 s


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("outage")
    settings = {"LOG_LEVEL": "DEBUG", "CLAWDBOT_LOG_DIR": str(directory / "logs")}
    with Stack(directory / "run", workers=WORKERS, settings=settings) as running:
        yield running


@pytest.fixture
async def talk(stack: Stack) -> AsyncIterator[Talk]:
    async with stack.client() as client:
        await client.control("reset")
        yield Talk(stack, client)


async def test_messages_are_refused_at_once_while_redis_is_frozen(talk: Talk, stack: Stack) -> None:
    chats = {platform: new_chat(platform) for platform in PLATFORMS}
    stack.redis_server.send_signal(signal.SIGSTOP)
    try:
        refusals = [await _refusal(talk, platform, chats[platform]) for platform in PLATFORMS]
        unready, _ = await asyncio.to_thread(stack.ready)
    finally:
        stack.redis_server.send_signal(signal.SIGCONT)

    for status, retry_after, took_s, _ in refusals:
        assert (status, retry_after) == (503, "2")
        assert took_s < ANSWER_LIMIT_S
    assert unready == 503

    # What was written to the frozen server's socket may be recorded now: repeats are duplicates.
    for platform, (*_, text) in zip(PLATFORMS, refusals, strict=True):
        message_id = f"om_{text}" if platform == "feishu" else text
        await talk.say(platform, text, chat=chats[platform], message_id=message_id)
    await talk.at_rest()
    for chat in chats.values():
        assert len(await talk.shown(chat)) == 1


async def test_an_outage_of_redis_loses_nothing(talk: Talk, stack: Stack) -> None:
    await talk.client.control("model", {"latency_s": 1})
    before = {new_chat(platform): platform for _ in range(20) for platform in PLATFORMS}
    for chat, platform in before.items():
        await talk.say(platform, f"{chat}: before", chat=chat)
    crashed = time.monotonic()
    stack.crash_redis()

    refused: list[tuple[str, str]] = []
    while time.monotonic() < crashed + OUTAGE_S:
        for platform in PLATFORMS:
            chat = new_chat(platform)
            started = time.monotonic()
            text = f"{chat}: during"
            status, message_id = await talk.client.send(platform, conversation=chat, text=text)
            assert status == 503
            assert time.monotonic() - started < ANSWER_LIMIT_S
            refused.append((chat, message_id))
        await asyncio.sleep(0.5)
    stack.redis_server.start()
    returned_ms = time.time() * 1000
    await asyncio.to_thread(stack.wait_until_ready)

    for _, message_id in refused:
        assert await talk.client.redeliver(message_id) == 200
    await eventually(lambda: _all_work(stack, returned_ms), 30, "every worker works again")
    await talk.at_rest()
    for chat in [*before, *(chat for chat, _ in refused)]:
        assert len({send["text"] for send in await talk.shown(chat)}) == 1, chat
    assert {p.starts for p in stack.processes.values()} == {1}, "no process may end over it"
    assert not any(bot["imbalance"] for bot in stack.census().values())


async def test_no_log_line_holds_a_secret(talk: Talk, stack: Stack) -> None:
    secrets = stack.secrets() | await _access_tokens(stack)
    text = "体检报告显示一切正常"
    for platform in PLATFORMS:
        secrets |= await _signatures(talk.client, stack, platform, text)
    # The other route, a refused token, and the errors whose texts quote requests.
    await talk.client.control("tokens/expire")
    await talk.say("dingtalk", text, webhook_expires_in_s=30)
    await talk.fault("dingtalk.session", "drop", match=text)
    await talk.say("dingtalk", text)
    await talk.fault("feishu.reply", "errcode", code=230002, message="no", match=text)
    await talk.say("feishu", text)
    await talk.fault("model", "drop", match=text)
    await talk.say("feishu", text)
    await talk.at_rest()
    secrets |= await _access_tokens(stack)

    log = stack.log_text()
    lines = [line for line in log.splitlines() if any(s in line for s in {*secrets, text})]
    assert log.count("event.received") > 40
    assert '"level":"DEBUG"' in log
    assert lines == []


async def test_every_log_line_fits_the_index_template(stack: Stack) -> None:
    """Ours, Celery's, tracebacks of the outage; of ours, every field can be searched for."""
    fields = properties()
    lines = {
        line
        for file in (stack.directory.parent / "logs").glob("*.log")
        for line in file.read_text("utf-8").splitlines()
    }

    documents = [ingested(line) for line in lines if json.loads(line)]
    assert [fault for document in documents for fault in faults(document, fields)] == []
    ours = [each for each in documents if "logger" not in each["metadata"]]
    assert {name for document in ours for name in unmapped(document, fields)} == set()
    assert {each["service"] for each in documents} >= {"ingress", "worker"}
    assert {each["level"] for each in documents} >= {"DEBUG", "INFO", "WARNING", "ERROR"}
    foreign = {each["metadata"].get("logger", "").partition(".")[0] for each in documents}
    assert foreign >= {"celery"}
    assert any("exception" in each["metadata"] for each in documents)
    assert any(each["message"] == "refusal.explained" for each in ours)


async def test_what_processes_print_besides_is_kept_as_text(stack: Stack) -> None:
    """Celery's banner, for one: Filebeat ships it from a container's output."""
    printed = [line for line in stack.log_text().splitlines() if not line.startswith("{")]

    for line in printed:
        document = ingested(line)
        assert (document["message"], document["level"]) == (line, "UNKNOWN")
        assert list(faults(document, properties())) == []


async def _all_work(stack: Stack, since_ms: float) -> bool:
    active = stack.redis.hgetall(keys.ACTIVE)
    return len(active) == len(WORKERS) and all(int(ms) > since_ms for ms in active.values())


async def _refusal(talk: Talk, platform: str, chat: str) -> tuple[int, str, float, str]:
    """Status, Retry-After, seconds it took, and the text, which names the message."""
    text = f"{chat}frozen"
    message_id = f"om_{text}" if platform == "feishu" else text
    path, headers, body = talk.client.build(
        platform, conversation=chat, text=text, message_id=message_id
    )
    started = time.monotonic()
    url = talk.stack.ingress_url + path
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=body, headers=headers) as response,
    ):
        await response.read()
        took_s = time.monotonic() - started
        return response.status, response.headers.get("Retry-After", ""), took_s, text


async def _signatures(client: SignedClient, stack: Stack, platform: str, text: str) -> set[str]:
    """What was signed for accepted, stale and misdirected calls."""
    chat = new_chat(platform)
    now = time.time()
    built = [
        client.build(platform, conversation=chat, text=text, now=at) for at in (now, now - 86400)
    ]
    statuses = [(await deliver(stack, request)).status for request in built]
    assert statuses == [200, 401]
    names = ("sign", "X-Lark-Signature")
    return {headers[name] for _, headers, _ in built for name in names if name in headers}


async def _access_tokens(stack: Stack) -> set[str]:
    """The access tokens in force: asked again, the platforms give the same ones."""
    known = stack.credentials
    calls: list[tuple[str, dict[str, Any]]] = [
        (
            f"{known['CLAWDBOT_DINGTALK__API_BASE']}/v1.0/oauth2/accessToken",
            {
                "appKey": known[credentials.DINGTALK_APP_KEY],
                "appSecret": known[credentials.DINGTALK_APP_SECRET],
            },
        ),
        (
            f"{known['CLAWDBOT_FEISHU__API_BASE']}/open-apis/auth/v3/tenant_access_token/internal",
            {
                "app_id": known[credentials.FEISHU_APP_ID],
                "app_secret": known[credentials.FEISHU_APP_SECRET],
            },
        ),
    ]
    tokens = set()
    async with aiohttp.ClientSession() as session:
        for url, value in calls:
            async with session.post(url, json=value) as response:
                answer = await response.json()
            tokens.add(answer.get("accessToken") or answer["tenant_access_token"])
    return tokens
