"""What a real scrape of the workers shows, on every pool."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.e2e.scraping import Samples, scrape, total, worker_addresses
from tests.e2e.stack import PROCESS, PUSH, Stack, Worker, with_concurrency
from tests.e2e.talk import Talk, new_chat

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

MESSAGES = 12
SLOTS = 2


@pytest.fixture(scope="module", params=["threads", "gevent", "prefork"])
def pooled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """Two workers of one stage and one of the other, all on one machine and one pool."""
    workers = [
        with_concurrency(PROCESS, request.param, SLOTS),
        Worker("process2", "process", request.param, SLOTS),
        with_concurrency(PUSH, request.param, SLOTS),
    ]
    with Stack(tmp_path_factory.mktemp("metrics") / "run", workers=workers) as stack:
        yield stack


@pytest.fixture
async def talk(pooled: Stack) -> AsyncIterator[Talk]:
    async with pooled.client() as client:
        yield Talk(pooled, client)


async def test_every_worker_shows_all_that_its_processes_did(talk: Talk) -> None:
    targets = await worker_addresses(talk.stack)
    assert len(set(targets.values())) == 3, "workers of one machine don't collide"
    before = scrape_all(targets)

    await say(talk, MESSAGES)

    after = scrape_all(targets)

    def more(name: str, **labels: str) -> float:
        return total(after, f"clawdbot_{name}", **labels) - total(
            before, f"clawdbot_{name}", **labels
        )

    for stage in ("process", "push"):
        assert more("stage_attempts_total", stage=stage, outcome="ok") == MESSAGES
        assert more("stage_run_seconds_count", stage=stage) == MESSAGES
        assert more("stage_wait_seconds_count", stage=stage) == MESSAGES
    assert more("model_calls_total", model="default", outcome="ok") == MESSAGES
    assert more("model_first_token_seconds_count", model="default") == MESSAGES
    assert more("model_call_seconds_count", model="default") == MESSAGES
    assert more("model_tokens_total", model="default", kind="completion") > MESSAGES
    assert more("push_sends_total", platform="feishu", route="reply", code="ok") == MESSAGES / 2
    assert more("push_sends_total", platform="dingtalk", outcome="ok") == MESSAGES / 2
    assert more("message_seconds_count", bot="default") == MESSAGES


async def test_every_worker_shows_the_resources_of_its_whole_process_tree(talk: Talk) -> None:
    for name, address in (await worker_addresses(talk.stack)).items():
        processes = 1 + len(talk.stack[name.partition("@")[0]].children())
        seen = [scrape(address)]

        assert total(seen, "clawdbot_processes") == processes
        assert total(seen, "clawdbot_process_cpu_seconds_total") > 0.3, "an interpreter started"
        memory = total(seen, "clawdbot_process_memory_bytes")
        assert 20e6 < memory < total(seen, "clawdbot_process_memory_limit_bytes")
        assert 0 < total(seen, "clawdbot_process_cpu_limit_cores") <= processes


async def test_killed_children_take_no_count_with_them_and_a_restart_begins_at_0(
    talk: Talk,
) -> None:
    stack = talk.stack
    targets = await worker_addresses(stack)
    before = total(scrape_all(targets), "clawdbot_message_seconds_count")
    await say(talk, MESSAGES)
    for name in ("process", "process2", "push"):
        for pid in stack[name].children():  # of prefork alone
            os.kill(pid, signal.SIGKILL)
    await say(talk, MESSAGES)

    counted = total(scrape_all(targets), "clawdbot_message_seconds_count")
    stack["push"].stop()
    stack["push"].start()
    stack.wait_until_ready()
    anew = total(scrape_all(await worker_addresses(stack)), "clawdbot_message_seconds_count")

    assert (counted - before, anew) == (2 * MESSAGES, 0)


async def say(talk: Talk, messages: int) -> None:
    """So many, half on each platform, and wait until each is answered."""
    platforms = ("dingtalk", "feishu") * (messages // 2)
    await asyncio.gather(*(talk.say(p, f"{new_chat(p)} hello") for p in platforms))
    await talk.at_rest(90)


def scrape_all(targets: dict[str, str]) -> list[Samples]:
    return [scrape(address) for address in targets.values()]
