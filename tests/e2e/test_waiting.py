"""A model that takes its time: the person is told once, in time, and never after the answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from shared.state import keys
from tests.e2e.stack import PROCESS, PUSH, Stack, with_concurrency
from tests.e2e.talk import Talk, new_chat

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

NOTICE_AFTER_S = 1.5
SLOW_S = 3.5
WORDS = {"feishu": "Still working on it, one moment please.", "dingtalk": "还在处理，请稍等。"}
SLOTS = 4


@pytest.fixture(scope="module")
def courteous(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Both bots say when it takes longer; the model stage has few slots."""
    settings = {
        "CLAWDBOT_DINGTALK__NOTICE_AFTER_S": str(NOTICE_AFTER_S),
        "CLAWDBOT_FEISHU__NOTICE_AFTER_S": str(NOTICE_AFTER_S),
    }
    workers = [with_concurrency(PROCESS, "threads", SLOTS), PUSH]
    directory = tmp_path_factory.mktemp("courteous") / "run"
    with Stack(directory, settings=settings, workers=workers) as stack:
        yield stack


@pytest.fixture
async def talk(courteous: Stack) -> AsyncIterator[Talk]:
    async with courteous.client() as client:
        await client.control("reset")
        await client.control("model", {"latency_s": 0, "tokens": 4, "token_interval_s": 0})
        yield Talk(courteous, client)


@pytest.mark.parametrize(
    ("platform", "question", "answer"),
    [("feishu", "how long?", "You said: how long?"), ("dingtalk", "要多久？", "你说：要多久？")],
)
async def test_who_waits_is_told_once_and_then_answered(
    talk: Talk, courteous: Stack, platform: str, question: str, answer: str
) -> None:
    await talk.pace(latency_s=SLOW_S)
    started = time.time()

    chat = new_chat(platform)
    await talk.say(platform, question, chat=chat)
    await talk.at_rest()

    word, reply = await talk.shown(chat)
    assert word["text"] == WORDS[platform]
    assert reply["text"].startswith(answer)
    assert NOTICE_AFTER_S <= word["at"] - started < SLOW_S
    assert [bot["imbalance"] for bot in courteous.census().values()] == [0, 0]
    assert not courteous.redis.exists(keys.WAITING)


async def test_who_is_answered_in_time_is_told_nothing_more(talk: Talk, courteous: Stack) -> None:
    texts = await talk.ask("feishu", "quickly?")

    assert len(texts) == 1
    assert not courteous.redis.exists(keys.WAITING)


async def test_an_answer_that_has_begun_is_word_enough(talk: Talk) -> None:
    await talk.pace(tokens=6, token_interval_s=0.6)

    texts = await talk.ask("feishu", "slowly, but at once")

    assert [text[:9] for text in texts] == ["You said:"]


async def test_who_waits_behind_others_is_told_although_nobody_works_on_it(talk: Talk) -> None:
    await talk.pace(latency_s=SLOW_S)
    chat = new_chat("feishu")
    busy = [new_chat("feishu") for _ in range(SLOTS - 1)]
    await talk.say("feishu", "the first", chat=chat)
    await talk.say("feishu", "the second", chat=chat)
    await asyncio.gather(*(talk.say("feishu", "hello", chat=each) for each in busy))
    queued = new_chat("feishu")
    await talk.say("feishu", "no slot is free", chat=queued)
    await talk.at_rest()

    word, *answers = await talk.shown(chat)
    assert word["text"] == WORDS["feishu"]
    assert len(answers) == 2, "the same chat is told once a minute"
    assert WORDS["feishu"] not in [answer["text"] for answer in answers]
    assert len(await talk.texts(queued)) == 2


async def test_who_waits_for_a_retry_is_told(talk: Talk) -> None:
    headers = {"Retry-After": str(SLOW_S)}
    await talk.fault("model", "status", status=503, headers=headers, match="again")

    word, answer = await talk.ask("feishu", "and again?")

    assert word == WORDS["feishu"]
    assert answer.startswith("You said: and again?")


async def test_a_failure_comes_after_the_word(talk: Talk) -> None:
    await talk.pace(latency_s=SLOW_S)
    await talk.fault("model", "finish", finish_reason="content_filter", match="refuse")

    word, failure = await talk.ask("feishu", "refuse me")

    assert word == WORDS["feishu"]
    assert failure.startswith("Sorry, this message could not be answered.")


async def test_a_word_that_can_not_be_sent_is_left_out(talk: Talk) -> None:
    await talk.pace(latency_s=SLOW_S)
    await talk.fault("feishu.reply", "status", status=500, times=0, match=WORDS["feishu"])

    texts = await talk.ask("feishu", "never mind")

    assert len(texts) == 1
    assert texts[0].startswith("You said: never mind")
    assert len(await talk.model_calls("never mind")) == 1


async def test_a_word_stuck_behind_a_slow_platform_is_not_sent_after_the_answer(
    talk: Talk,
) -> None:
    await talk.pace(latency_s=SLOW_S)
    chat = new_chat("feishu")
    await talk.fault("feishu.reply", "slow", delay_s=3, match=WORDS["feishu"])
    await talk.say("feishu", "are you there?", chat=chat)
    await talk.at_rest()

    texts = await talk.texts(chat)
    assert texts.count(WORDS["feishu"]) == 1
    assert texts[-1].startswith("You said: are you there?")
