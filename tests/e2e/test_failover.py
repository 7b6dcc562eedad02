"""A chain of two models: what people see while the preferred one is away, slow, or full."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from shared.state import keys
from tests.e2e.stack import PROCESS, PUSH, Stack, with_concurrency
from tests.e2e.talk import Talk, eventually, new_chat

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

MESSAGES = 40
SLOTS = 4
BREAKER_OPEN_S = 2


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    settings = {
        "CLAWDBOT_MODEL__CHAIN": "default,backup",
        "CLAWDBOT_MODELS__BACKUP__MAX_CONCURRENT": str(SLOTS),
        "CLAWDBOT_TASK_TIMEOUT_S": "2",
        "CLAWDBOT_MODEL_CALLS__BREAKER_OPEN_S": str(BREAKER_OPEN_S),
    }
    workers = [with_concurrency(PROCESS, "gevent", 40), with_concurrency(PUSH, "threads", 8)]
    directory = tmp_path_factory.mktemp("failover") / "run"
    with Stack(directory, workers=workers, settings=settings, backup_model=True) as running:
        yield running


@pytest.fixture
async def talk(stack: Stack) -> AsyncIterator[Talk]:
    async with stack.client() as client:
        talk = Talk(stack, client)
        await talk.no_faults()
        await talk.pace(latency_s=0, tokens=4, token_interval_s=0)
        await eventually(lambda: _is_back(talk), 30, "the breaker closes again")
        await client.control("reset")
        yield talk


async def _is_back(talk: Talk) -> bool:
    """Whether the preferred model is not left alone; asking is what closes its breaker."""
    if not _is_open(talk.stack):
        return True
    await talk.ask("feishu", "are you back?")
    return False


def _is_open(stack: Stack) -> bool:
    return bool(stack.redis.hexists(keys.breaker("default"), "open_until"))


async def ask_all(talk: Talk, word: str) -> Counter[str]:
    """Forty people ask at once; who was called, and each of them has one answer."""
    chats = [new_chat("feishu") for _ in range(MESSAGES)]
    await asyncio.gather(*(talk.say("feishu", f"{word} {chat}", chat=chat) for chat in chats))
    await talk.at_rest()
    for chat in chats:
        (text,) = await talk.texts(chat)
        assert text.startswith(f"You said: {word} {chat}")
    return Counter(call["name"] for call in await calls(talk))


async def calls(talk: Talk) -> list[dict[str, Any]]:
    return [record for record in await talk.client.ledger() if record["kind"] == "model"]


async def test_the_preferred_model_answers_while_it_can(talk: Talk) -> None:
    assert await ask_all(talk, "hello") == {"model": MESSAGES}


async def test_the_next_model_answers_for_one_that_fails_and_is_then_left_alone(
    talk: Talk,
) -> None:
    await talk.fault("model", "status", status=503, times=0)

    asked = await ask_all(talk, "first")
    started = time.monotonic()
    asked_later = await ask_all(talk, "later") - asked
    most_probes = 1 + (time.monotonic() - started) / BREAKER_OPEN_S

    assert asked["backup"] >= MESSAGES
    assert asked_later["model"] <= most_probes, "an open breaker lets probes through, no more"
    assert asked_later["backup"] >= MESSAGES


async def test_a_model_that_is_back_is_asked_again(talk: Talk) -> None:
    await talk.fault("model", "status", status=503, times=0)
    await ask_all(talk, "away")
    assert _is_open(talk.stack)
    await talk.no_faults()
    await eventually(lambda: _is_back(talk), 30, "the breaker closes again")
    await talk.client.control("reset")

    assert await ask_all(talk, "back") == {"model": MESSAGES}


async def test_a_model_that_stalls_costs_one_stall_and_not_the_answer(talk: Talk) -> None:
    await talk.fault("model", "hang", times=0)

    asked = await ask_all(talk, "slow")

    assert asked["backup"] >= MESSAGES


async def test_calls_of_a_limited_model_keep_to_its_slots_and_all_are_answered(
    talk: Talk, stack: Stack
) -> None:
    await talk.fault("model", "status", status=503, times=0)
    await talk.pace(latency_s=0.3)

    asked = await ask_all(talk, "narrow")

    assert asked["backup"] == MESSAGES
    made = await calls(talk)
    assert max(_at_once(call, made) for call in made) <= SLOTS
    assert [bot["in_flight"] for bot in stack.census().values()] == [0, 0]


def _at_once(call: dict[str, Any], others: list[dict[str, Any]]) -> int:
    """How many calls of the backup ran when this one began."""
    began = call["at"]
    backup = [other for other in others if other["name"] == "backup"]
    return sum(other["at"] <= began < other["ended_at"] for other in backup)
