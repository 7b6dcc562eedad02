"""An operator's instruments at the running stack: its series, a real Prometheus, Flower."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import secrets
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.processes import Process, wait_until
from tests.e2e.scraping import Prometheus, scrape, worker_addresses
from tests.e2e.stack import Stack
from tests.e2e.talk import Talk, eventually
from tests.queries import as_prometheus_gets_it, panel_queries, rules, series_asked_for
from tests.redis_server import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

MASTER = {"CLAWDBOT_MASTER_KEY": "a master key of the end-to-end tests"}
BOT_NOT_IN_CHAT = 230002  #: permanent: the reply becomes a dead letter


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("watched") / "run", settings=MASTER) as stack:
        yield stack


@pytest.fixture
async def talk(watched: Stack) -> AsyncIterator[Talk]:
    async with watched.client() as client:
        await client.control("reset")
        yield Talk(watched, client)


async def test_every_series_of_rules_and_panels_is_in_a_scrape(talk: Talk) -> None:
    await put_a_key_into_the_ring(talk)
    for platform in ("dingtalk", "feishu"):
        await talk.ask(platform, "hello")

    addresses = [*(await worker_addresses(talk.stack)).values(), ingress_of(talk.stack)]
    seen = {name for address in addresses for name in scrape(address)}

    assert series_asked_for() - seen == set()


async def test_prometheus_scrapes_it_all_and_the_first_dead_letter_raises_an_alert(
    talk: Talk, tmp_path: Path
) -> None:
    await put_a_key_into_the_ring(talk)
    workers = list((await worker_addresses(talk.stack)).values())
    targets = {"clawdbot-ingress": [ingress_of(talk.stack)], "clawdbot-workers": workers}
    with Prometheus(tmp_path, targets) as prometheus:
        all_up = [("clawdbot-ingress", "up"), *([("clawdbot-workers", "up")] * 2)]
        wait_until(lambda: prometheus.health() == all_up, 30, "every target is up")
        loaded = prometheus.ask("rules")["groups"]
        assert sum(len(group["rules"]) for group in loaded) == len(rules())
        await talk.ask("dingtalk", "hello")
        assert prometheus.firing("ClawdBotDeadLetter") == []

        await talk.fault("feishu.reply", "errcode", code=BOT_NOT_IN_CHAT)
        await talk.ask("feishu", "nobody will read the answer")

        fires = wait_until(lambda: prometheus.firing("ClawdBotDeadLetter"), 30, "the alert fires")
        assert [(f["platform"], f["bot"]) for f in fires] == [("feishu", "default")]
        for title, query in panel_queries():
            asked = as_prometheus_gets_it(query)
            wait_until(lambda q=asked: prometheus.has_answer(q), 15, f"{title} has data")
        await asyncio.to_thread(talk.stack.clawdbot, "dead", "drop", "--all", "--yes")
        wait_until(lambda: not prometheus.firing("ClawdBotDeadLetter"), 30, "it is silent again")


async def test_flower_asks_for_a_password_and_shows_tasks_without_content(talk: Talk) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    flower = start_flower(talk.stack, url)
    try:
        wait_until(lambda: status(url), 40, "Flower answers")
        assert {status(url), status(f"{url}/api/tasks"), status(f"{url}/api/workers")} == {401}
        password = re.search(r"password (\S+)", flower.log.read_text())
        assert password
        assert status(url, f"clawdbot:{password[1]}") == 200

        async def tasks() -> list[dict[str, Any]]:  # Flower has to switch the events on first
            await talk.ask("feishu", "a word that no operator may read")
            text = await asyncio.to_thread(get, f"{url}/api/tasks", f"clawdbot:{password[1]}")
            assert "no operator" not in text
            # Of a task that was under way when events began, Flower never learns the name.
            found = [task for task in json.loads(text).values() if task["name"]]
            return found if {task["name"] for task in found} == {"process", "push"} else []

        for task in await eventually(tasks, 90, "Flower has seen a task of each stage"):
            assert re.fullmatch(
                r"\('feishu:cli_\w+:conv:oc_\w+:(inbox|outbox)', .*\)", task["args"]
            )
    finally:
        flower.end()


async def put_a_key_into_the_ring(talk: Talk) -> None:
    pair = f"sk-{secrets.token_hex(16)}"
    await talk.client.control("keys", {"add": [pair]})
    file = talk.stack.directory / "pair.json"
    file.write_text(json.dumps({"akId": "AK", "akSecret": pair}))
    done = await asyncio.to_thread(talk.stack.clawdbot, "keys", "rotate", "--file", str(file))
    assert done.returncode == 0, done.stderr


def ingress_of(stack: Stack) -> str:
    return stack.ingress_url.removeprefix("http://")


def start_flower(stack: Stack, url: str) -> Process:
    command = [sys.executable, "-c", "from shared.cli import main; main()", "flower"]
    arguments = ["--address=127.0.0.1", f"--port={url.rpartition(':')[2]}"]
    flower = Process(
        "flower",
        [*command, *arguments],
        directory=stack.directory,
        environment=stack.environment,
    )
    flower.start()
    return flower


def get(url: str, user: str) -> str:
    given = {"Authorization": f"Basic {base64.b64encode(user.encode()).decode()}"} if user else {}
    request = urllib.request.Request(url, headers=given)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.read().decode()


def status(url: str, user: str = "") -> int:
    """0: nobody answers."""
    try:
        get(url, user)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except OSError:
        return 0
    return 200
