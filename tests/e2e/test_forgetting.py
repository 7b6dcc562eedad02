"""Somebody is erased while everybody writes: others notice nothing, every event has a fate."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable

import pytest

from shared.messages import digest
from shared.state.keys import BotKeys
from tests.e2e.checks import BUGS, counters
from tests.e2e.stack import PROCESS, PUSH, Stack, with_concurrency
from tests.e2e.talk import Talk, eventually, new_chat
from tests.redis_content import content
from tests.simulator.credentials import FEISHU_APP_ID

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

MESSAGES = 4  #: of each person in each of their chats
CHATS = 12  #: of two, of each person; and groups of both
ADA, BOB = "ada", "bob"


@pytest.fixture
async def talk(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Talk]:
    directory = tmp_path_factory.mktemp("forgetting") / "run"
    workers = [with_concurrency(PROCESS, "threads", 6), PUSH]
    with Stack(directory, workers=workers) as stack:
        async with stack.client() as client:
            await client.control("model", {"latency_s": 1, "tokens": 4, "token_interval_s": 0})
            yield Talk(stack, client)


async def test_a_person_is_erased_under_load_and_the_sums_hold(talk: Talk) -> None:
    groups = [new_chat("feishu") for _ in range(CHATS)]
    written: dict[str, list[str]] = {ADA: [], BOB: []}
    load = asyncio.gather(*(write(talk, who, groups, written[who]) for who in (ADA, BOB)))
    await eventually(lambda: is_busy(talk, written[ADA]), 30, "answers are under way")
    person = sender_of(talk.stack, written[ADA][-1])
    first = await forget(talk, person)
    await load
    second = await forget(talk, person, "--groups")
    await talk.at_rest(90)
    third = await forget(talk, person, "--groups")

    assert first["unfinished"] + second["unfinished"] >= CHATS
    assert first["private"] >= 1
    assert {name: third[name] for name in ("unfinished", "letters", "private")} == {
        "unfinished": 0,
        "letters": 0,
        "private": 0,
    }
    facts = talk.stack.census().values()
    assert {(bot["imbalance"], bot["in_flight"]) for bot in facts} == {(0, 0)}
    told = counters(talk.stack)
    assert told["cancelled"] == first["unfinished"] + second["unfinished"]
    assert told["accepted"] == told["answered"] + told["cancelled"] == 4 * CHATS * MESSAGES
    answers = (await talk.client.stats())["answers"]
    assert [answers.get(message) for message in written[BOB]] == [1] * len(written[BOB])
    assert max(answers.get(message, 0) for message in written[ADA]) == 1
    left = [key for key, text in content(talk.stack.redis_server.url) if person.encode() in text]
    assert left == []
    log = talk.stack.log_text()
    assert [word for word in BUGS if word in log] == []
    assert person not in log


async def write(talk: Talk, who: str, groups: list[str], written: list[str]) -> None:
    """One person, in all chats at once."""

    async def in_chat(chat: str, group: bool) -> None:
        for number in range(MESSAGES):
            text = f"{who} {number} in {chat}."
            written.append(await talk.say("feishu", text, chat=chat, sender=who, group=group))

    own = [in_chat(new_chat("feishu"), False) for _ in range(CHATS)]
    work: list[Awaitable[None]] = [*own, *(in_chat(chat, True) for chat in groups)]
    await asyncio.gather(*work)


async def is_busy(talk: Talk, written: list[str]) -> bool:
    answers = (await talk.client.stats())["answers"]
    return sum(message in answers for message in written) >= 3


def sender_of(stack: Stack, message_id: str) -> str:
    """The platform's id of who wrote an unfinished message."""
    bot = BotKeys("feishu", stack.credentials[FEISHU_APP_ID])
    event = stack.redis.hget(bot.event(digest(bot.platform, bot.app_id, message_id)), "event")
    sender: str = json.loads(event)["sender_id"]
    return sender


async def forget(talk: Talk, person: str, *more: str) -> dict[str, int]:
    done = await asyncio.to_thread(
        talk.stack.clawdbot, "forget", "--user", person, "--yes", "--json", *more
    )
    assert done.returncode == 0, done.stderr
    (feishu,) = (v for name, v in json.loads(done.stdout).items() if name.startswith("feishu:"))
    erased: dict[str, int] = feishu
    return erased
