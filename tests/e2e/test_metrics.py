"""What a real scrape of the running stack shows, on every pool, and to a real Prometheus."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.stack import PROCESS, PUSH, Stack, Worker, with_concurrency
from tests.e2e.talk import Talk, eventually, new_chat

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

MESSAGES = 12
SLOTS = 2
Samples = dict[str, list[tuple[dict[str, str], float]]]


@pytest.fixture(params=["threads", "gevent", "prefork"])
async def talk(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Talk]:
    workers = [
        with_concurrency(PROCESS, request.param, SLOTS),
        Worker("process2", "process", request.param, SLOTS),
        with_concurrency(PUSH, request.param, SLOTS),
    ]
    directory = tmp_path_factory.mktemp("metrics") / "run"
    with Stack(directory, workers=workers) as stack:
        async with stack.client() as client:
            yield Talk(stack, client)


async def test_every_worker_shows_all_that_its_processes_did(talk: Talk) -> None:
    targets = await addresses(talk.stack)
    assert len(set(targets.values())) == 3, "workers of one machine don't collide"
    await say(talk, MESSAGES)

    seen = scrape_all(targets)

    assert total(seen, "clawdbot_stage_attempts_total", stage="process", outcome="ok") == MESSAGES
    assert total(seen, "clawdbot_stage_attempts_total", stage="push", outcome="ok") == MESSAGES
    for name in ("stage_run", "stage_wait"):
        assert total(seen, f"clawdbot_{name}_seconds_count", stage="process") == MESSAGES
        assert total(seen, f"clawdbot_{name}_seconds_count", stage="push") == MESSAGES
    assert total(seen, "clawdbot_model_calls_total", model="default", outcome="ok") == MESSAGES
    assert total(seen, "clawdbot_model_first_token_seconds_count") == MESSAGES
    assert total(seen, "clawdbot_model_tokens_total", kind="completion") > MESSAGES
    assert total(seen, "clawdbot_push_sends_total", code="ok", platform="feishu") == MESSAGES / 2
    assert total(seen, "clawdbot_push_sends_total", code="ok", route="session") == MESSAGES / 2
    assert total(seen, "clawdbot_message_seconds_count", bot="default") == MESSAGES


async def test_every_worker_shows_the_resources_of_its_whole_process_tree(talk: Talk) -> None:
    targets = await addresses(talk.stack)
    children = {name: talk.stack[name.partition("@")[0]].children() for name in targets}

    for name, address in targets.items():
        seen = [scrape(address)]
        assert total(seen, "clawdbot_processes") == 1 + len(children[name])
        assert total(seen, "clawdbot_process_cpu_seconds_total") > 0.3, "an interpreter started"
        memory = total(seen, "clawdbot_process_memory_bytes")
        assert 20e6 < memory < total(seen, "clawdbot_process_memory_limit_bytes")
        cores = total(seen, "clawdbot_process_cpu_limit_cores")
        assert 0 < cores <= 1 + len(children[name])


async def test_killed_children_and_restarted_workers_leave_no_wrong_count(talk: Talk) -> None:
    stack = talk.stack
    targets = await addresses(stack)
    await say(talk, MESSAGES)
    children = [pid for name in ("process", "process2", "push") for pid in stack[name].children()]
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    await say(talk, MESSAGES)

    counted = total(scrape_all(targets), "clawdbot_message_seconds_count")
    stack["push"].stop()
    stack["push"].start()
    stack.wait_until_ready()
    anew = total(scrape_all(await addresses(stack)), "clawdbot_message_seconds_count")

    assert (counted, anew) == (2 * MESSAGES, 0)


async def say(talk: Talk, messages: int) -> None:
    """So many, half on each platform, and wait until each is answered."""
    platforms = ("dingtalk", "feishu") * (messages // 2)
    await asyncio.gather(*(talk.say(p, f"{new_chat(p)} hello") for p in platforms))
    await talk.at_rest(90)


async def addresses(stack: Stack) -> dict[str, str]:
    """Where each worker shows its metrics, as `clawdbot metrics --json` tells Prometheus."""

    async def told() -> list[dict[str, Any]]:
        done = await asyncio.to_thread(stack.clawdbot, "metrics", "--json")
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found if len(found) == len(stack.processes) - 2 else []  # not simulator and ingress

    targets = await eventually(told, 20, "every worker tells where it is scraped")
    return {target["labels"]["worker"]: target["targets"][0] for target in targets}


def scrape_all(targets: dict[str, str]) -> list[Samples]:
    return [scrape(address) for address in targets.values()]


def scrape(address: str) -> Samples:
    """The samples of one /metrics, by name."""
    found: Samples = {}
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def total(seen: list[Samples], name: str, **labels: str) -> float:
    """The sum of the samples that have these labels."""
    return sum(
        value
        for samples in seen
        for given, value in samples.get(name, [])
        if labels.items() <= given.items()
    )
