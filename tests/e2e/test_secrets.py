"""A run with every kind of trouble leaves no secret in any log, metric, Redis value, page or body.

Searched for: the credentials, the master key, the Redis password, the keys of the ring, access
tokens, every signature and every session webhook that was used, in all their spellings. Each kind
of places (`places`) is proved to be searched by planting something in one of them.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from celery import Celery

from shared.envelope import hint_templates
from shared.state.keys import BotKeys
from shared.vault import Vault
from tests.e2e.leaks import Leak, Needles
from tests.e2e.scraping import worker_addresses
from tests.e2e.stack import SESSION_START, Stack
from tests.e2e.talk import Talk, eventually, new_chat
from tests.redis_content import content
from tests.redis_server import free_port
from tests.simulator.client import post
from tests.simulator.credentials import DINGTALK_APP_KEY, FEISHU_APP_ID
from tests.simulator.events import Request

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

PLATFORMS = ("dingtalk", "feishu")
MASTER_KEY = "a/master+key of the end-to-end tests"
REDIS_PASSWORD = f"redis-{secrets.token_hex(12)}"
WORDS = "the-very-words-of-somebody"  #: what people write shows nowhere but in Redis
SIGNATURES = ("sign", "X-Lark-Signature")
SESSION_WEBHOOK = re.compile(rb'https?://[^"]*session=([^"]*)')
PAGES = ("/", "/workers", "/tasks", "/broker", "/api/workers", "/api/tasks", "/metrics")
BROKEN: Mapping[str, tuple[str, dict[str, Any]]] = {
    "dingtalk": ("dingtalk.session", {"kind": "errcode", "code": 400102}),
    "feishu": ("feishu.reply", {"kind": "errcode", "code": 230002}),
}


@dataclass
class Run:
    """One stack with Flower, what was sent to it, and what came back."""

    talk: Talk
    flower_url: str
    used: dict[str, str] = field(default_factory=dict)
    shown: list[tuple[str, bytes]] = field(default_factory=list)

    @property
    def stack(self) -> Stack:
        return self.talk.stack

    async def call(self, what: str, request: Request) -> int:
        """Post a request; its signature and session webhook are secrets from now on."""
        _, headers, body = request
        number = len(self.used)
        for name in SIGNATURES:
            if name in headers:
                self.used[f"signature {number} ({what})"] = headers[name]
        if found := SESSION_WEBHOOK.search(body):
            self.used[f"webhook {number} ({what})"] = found[0].decode()
            self.used[f"session {number} ({what})"] = found[1].decode()
        async with aiohttp.ClientSession() as session:
            ack = await post(session, self.stack.ingress_url, request)
        self.shown.append((f"answer to {what}", ack.body))
        return ack.status

    async def say(self, what: str, platform: str, text: str, **more: Any) -> str:
        """A message that is let in; its conversation."""
        chat = new_chat(platform)
        request = self.talk.client.build(
            platform, conversation=chat, text=f"{WORDS} {text}", **more
        )
        assert await self.call(what, request) == 200
        return chat

    async def clawdbot(self, *arguments: str) -> str:
        done = await asyncio.to_thread(self.stack.clawdbot, *arguments)
        self.shown.append((f"clawdbot {' '.join(arguments)}", (done.stdout + done.stderr).encode()))
        return done.stdout


@pytest.fixture
async def run(tmp_path: Path) -> AsyncIterator[Run]:
    settings = {
        "LOG_LEVEL": "DEBUG",
        "CLAWDBOT_LOG_DIR": str(tmp_path / "logs"),
        "CLAWDBOT_MASTER_KEY": MASTER_KEY,
        "CLAWDBOT_RETRY__PROCESS_LIMIT_S": "1",
        "FLOWER_UNAUTHENTICATED_API": "true",
    }
    with Stack(tmp_path / "run", settings=settings, redis_password=REDIS_PASSWORD) as stack:
        port = free_port()
        arguments = ["flower", "--address=127.0.0.1", f"--port={port}"]
        stack.add_program("flower", [sys.executable, "-m", "celery", "-A", "workers", *arguments])
        async with stack.client() as client:
            await client.control("model", {"latency_s": 0, "tokens": 4, "token_interval_s": 0})
            yield Run(Talk(stack, client), f"http://127.0.0.1:{port}")


async def test_no_secret_shows_anywhere_and_a_planted_one_does(run: Run, tmp_path: Path) -> None:
    await until_flower_sees_every_task(run)
    ring = await rotate_a_key(run)
    await refuse_calls(run)
    await fail_everywhere(run)
    await look_at_redis_while_something_is_unfinished(run)
    tokens = open_tokens(run.stack)
    assert len(tokens) == 2, "both platforms gave an access token"

    needles = Needles({**credentials(run.stack), **ring, **run.used, **tokens})
    words = Needles({"what somebody wrote": WORDS})
    await gather(run)
    assert metrics_shown(run) == {"ingress", "process", "push", "Flower"}

    assert not (found := needles.found_in(places(run, tmp_path))), told(found)
    assert (
        words.found_in(
            (where, text) for where, text in places(run, tmp_path) if not may_have_words(where)
        )
        == []
    )

    planted = await plant(run, tmp_path)
    found = Needles(planted).found_in(places(run, tmp_path))
    assert {leak.what for leak in found} == set(planted), told(found)


# What happens in the run


async def until_flower_sees_every_task(run: Run) -> None:
    """It tells workers every 5 s to report tasks: those before the first time it never hears of."""

    async def hears_workers() -> bool:
        _, body = await page(run, "/api/workers?refresh=1")
        _, alive = await page(run, "/api/workers?status=1")
        return body.count(b'"active_queues"') >= 2 and alive.count(b"true") >= 2

    await eventually(hears_workers, 40, "Flower hears from both workers")
    celery = Celery(broker=run.stack.redis_server.url)
    told = await asyncio.to_thread(celery.control.enable_events, reply=True, timeout=10, limit=2)
    assert len(told) == 2, "both workers report their tasks"


async def rotate_a_key(run: Run) -> dict[str, str]:
    """A ring with an old key, a new one, and one that waits."""
    keys = {name: f"sk-{secrets.token_hex(16)}" for name in ("old key", "new key", "next key")}
    await run.talk.client.control("keys", {"add": list(keys.values())})
    for command, key in zip(("rotate", "rotate", "add"), keys.values(), strict=True):
        file = run.stack.directory / "pair.json"
        file.write_text(json.dumps({"akId": "AK", "akSecret": key}))
        await run.clawdbot("keys", command, "--file", str(file))
        file.unlink()
    rows = json.loads(await run.clawdbot("keys", "list", "--json"))
    states = [row["state"] for row in rows]
    assert states == ["active", "next", "replaced", "replaced", "settings"]
    return keys


async def refuse_calls(run: Run) -> None:
    client = run.talk.client
    for platform in PLATFORMS:
        chat, text = new_chat(platform), f"{WORDS} refused"
        stale = client.build(platform, conversation=chat, text=text, now=time.time() - 86_400)
        path, headers, body = client.build(platform, conversation=chat, text=text)
        name = next(name for name in SIGNATURES if name in headers)
        forged = {**headers, name: secrets.token_urlsafe(24)}
        assert await run.call(f"{platform}: stale", stale) == 401
        assert await run.call(f"{platform}: forged", (path, forged, body)) == 401
        assert await run.call(f"{platform}: cut", (path, headers, body[:-9])) in (400, 401)
        assert await run.call(f"{platform}: no such bot", (f"{path}/nobody", headers, body)) == 404


async def fail_everywhere(run: Run) -> None:
    """Answers, and dead letters of both stages whose vendors repeat what they were sent."""
    client = run.talk.client
    for platform in PLATFORMS:
        await run.say(f"{platform}: answered", platform, "answered")
        await run.say(f"{platform}: by the robot", platform, "late", webhook_expires_in_s=30)
        target, fault = BROKEN[platform]
        known = sorted(run.stack.secrets() - {SESSION_START})
        echo = f"no: {WORDS} {list(run.used.values())[-1]} {known}"
        await client.control(
            "faults", {"target": target, "match": "unsent", "times": 0, "message": echo, **fault}
        )
        await run.say(f"{platform}: never sent", platform, "unsent")
    key = run.stack.credentials["CLAWDBOT_AK_SECRET"]
    body = {"error": {"code": "bad_request", "message": f"{key} {WORDS}"}}
    order = {"target": "model", "kind": "status", "status": 400, "body": body}
    await client.control("faults", {**order, "times": 0, "match": "unanswered"})
    await run.say("unanswered", "feishu", "unanswered")
    await run.talk.at_rest()
    letters = json.loads(await run.clawdbot("dead", "list", "--json"))
    assert {letter["stage"] for letter in letters} == {"process", "push"}
    await run.clawdbot("trace", letters[0]["trace_id"], "--json")
    await run.clawdbot("dead", "drop", "--yes", letters[0]["trace_id"])
    await run.clawdbot("dead", "replay", letters[1]["trace_id"])
    await run.talk.at_rest()


async def look_at_redis_while_something_is_unfinished(run: Run) -> None:
    """Messages whose model keeps silent: session webhooks lie sealed beside their lanes."""
    await run.talk.client.control("model", {"latency_s": 4})
    for platform in PLATFORMS:
        await run.say(f"{platform}: unfinished", platform, "unfinished")
    run.shown += [(f"Redis {key}", value) for key, value in content(run.stack.redis_server.url)]
    assert run.stack.in_flight() == len(PLATFORMS)


def credentials(stack: Stack) -> dict[str, str]:
    known = {f"credential {n}": value for n, value in enumerate(sorted(stack.secrets()))}
    return {**known, "master key": MASTER_KEY, "Redis password": REDIS_PASSWORD}


def open_tokens(stack: Stack) -> dict[str, str]:
    """The access tokens that lie sealed in Redis."""
    found = {}
    for platform, app in (("dingtalk", DINGTALK_APP_KEY), ("feishu", FEISHU_APP_ID)):
        bot = BotKeys(platform, stack.credentials[app])
        app_secret = stack.credentials[f"CLAWDBOT_{platform.upper()}__APP_SECRET"]
        sealed = stack.redis.hget(bot.token, "value")
        if sealed:
            vault = Vault.for_bot([MASTER_KEY], [app_secret], bot.prefix)
            found[f"{platform}'s access token"] = vault.open(sealed)
    return found


# Where it is looked for


async def page(run: Run, path: str) -> tuple[int, bytes]:
    url = path if path.startswith("http") else run.flower_url + path
    try:
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return answer.status, await answer.read()
    except aiohttp.ClientError:
        return 0, b""


async def gather(run: Run) -> None:
    """Every page and every report that there is."""
    _, workers = await page(run, "/api/workers")
    tasks = await eventually(lambda: many_tasks(run), 30, "Flower saw the tasks")
    paths = [*PAGES, *(f"/worker/{name}" for name in json.loads(workers))]
    paths += [f"/task/{name}" for name in list(json.loads(tasks))[:20]]
    ours = [f"{run.stack.ingress_url}/{name}" for name in ("metrics", "ready?deep=1", "health")]
    theirs = [f"http://{address}/metrics" for address in (await addresses_of_both(run)).values()]
    for path in [*paths, *ours, *theirs]:
        status, body = await page(run, path)
        assert status == 200, path
        run.shown.append((f"page {path}", body))
    for command in ("queue", "usage", "dead list", "keys list", "audit report"):
        await run.clawdbot(*command.split(), "--json")


async def addresses_of_both(run: Run) -> dict[str, str]:
    """Where each worker shows its metrics."""
    found = await worker_addresses(run.stack)
    assert {name.partition("@")[0] for name in found} == {"process", "push"}
    return found


async def many_tasks(run: Run) -> bytes:
    """Flower's list of tasks, once there are enough of them to look through."""
    _, tasks = await page(run, "/api/tasks?limit=200")
    return tasks if tasks.count(b'"args"') >= 10 else b""


def metrics_shown(run: Run) -> set[str]:
    """Whose metrics are looked through: each has one that the others have not."""
    own = {
        "ingress": b"clawdbot_ingress_requests_total{",
        "process": b"clawdbot_model_calls_total{",
        "push": b"clawdbot_push_sends_total{",
        "Flower": b"flower_worker_online{",
    }
    pages = [text for where, text in run.shown if where.endswith("/metrics")]
    return {name for name, sample in own.items() if any(sample in text for text in pages)}


def places(run: Run, tmp_path: Path) -> Iterator[tuple[str, bytes]]:
    yield from run.shown
    for name, process in run.stack.processes.items():
        if name != "simulator":
            yield f"output of {name}", process.log.read_bytes()
    for file in (tmp_path / "logs").iterdir():
        yield f"log {file.name}", file.read_bytes()
    for key, value in content(run.stack.redis_server.url):
        yield f"Redis {key}", value


def may_have_words(where: str) -> bool:
    """Redis holds messages until they are answered; who asks for dead letters is shown them."""
    return where.startswith(("Redis ", "clawdbot dead"))


# What is planted


async def plant(run: Run, tmp_path: Path) -> dict[str, str]:
    """A secret of its own in every kind of place; what it is called says where."""
    client = run.stack.redis
    names = ["a log", "an output", "a report", "a task", "a Celery message", "the name of a key"]
    kinds = ("string", "hash", "list", "set", "zset", "stream")
    planted = {name: f"planted-{secrets.token_hex(12)}" for name in (*names, *kinds)}
    with (tmp_path / "logs/auth.log").open("a") as log:
        log.write(json.dumps({"message": planted["a log"]}) + "\n")
    with run.stack.processes["ingress"].log.open("a") as output:
        output.write(f"{planted['an output']}\n")
    await run.clawdbot("conversation", "show", planted["a report"])
    client.set(f"planted:{planted['the name of a key']}", 1)
    client.set("planted:string", planted["string"])
    client.hset("planted:hash", "field", planted["hash"])
    client.rpush("planted:list", planted["list"])
    client.sadd("planted:set", planted["set"])
    client.zadd("planted:zset", {planted["zset"]: 1})
    client.xadd("planted:stream", {"field": planted["stream"]})
    client.lpush("planted:queue", hint(planted["a Celery message"]))
    client.lpush("push", hint(planted["a task"]))
    await eventually(lambda: shows(run, planted["a task"]), 30, "Flower shows the planted task")
    return planted


def hint(conversation: str) -> str:
    """A Celery message of a lane that doesn't exist."""
    _, message = hint_templates()
    marks = {"LANE": f"feishu:cli_planted:conv:{conversation}:outbox", "SEQ": "0"}
    marks |= {name: f"planted-{name.lower()}" for name in ("TRACE", "ID", "TAG")}
    for name, text in marks.items():
        message = message.replace(f"${name}$", text)
    return message


async def shows(run: Run, text: str) -> bool:
    _, body = await page(run, "/api/tasks?limit=500")
    run.shown.append(("page /api/tasks, again", body))
    return text.encode() in body


def told(leaks: list[Leak]) -> str:
    return "\n".join(f"{leak.what} in {leak.where}, {leak.spelling}" for leak in leaks)
