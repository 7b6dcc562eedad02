"""Quotas as people meet them, and fairness: who floods the bot does not hold up the others.

The model's stage has one slot: whoever holds it up, holds up everybody.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.stack import PROCESS, PUSH, Stack, with_concurrency
from tests.e2e.talk import Talk, eventually, new_chat

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180), pytest.mark.xdist_group("quotas")]

A_DAY = 3  #: messages that a person may send
FLOOD = 150
LATENCY_S = 0.15
#: A task goes on with other heads for so long; a hint that Celery has fetched waits meanwhile.
GO_ON_S = 2.5


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """`talk` is in here."""
    settings = {
        "CLAWDBOT_SECURITY__QPS": "100000",
        "CLAWDBOT_QUOTAS__USER__REQUESTS_PER_DAY": str(A_DAY),
    }
    workers = [with_concurrency(PROCESS, "threads", 1), PUSH]
    directory = tmp_path_factory.mktemp("quotas") / "run"
    with Stack(directory, workers=workers, settings=settings) as running:
        yield running


def end_the_day(stack: Stack) -> None:
    """For everybody's quota: as if it had been used yesterday."""
    for key in stack.redis.scan_iter("*:quota:*"):
        used = stack.redis.hgetall(key)
        days = [window for window in used if window.startswith("d")]
        before = {f"d{int(day[1:]) - 1}": used[day] for day in days}
        stack.redis.hdel(key, *days)
        stack.redis.hset(key, mapping=before)


@pytest.mark.parametrize(
    ("question", "notice"),
    [
        ("你好", "抱歉，你今天的提问次数已达上限，明天可以继续使用。"),
        (
            "hello",
            "Sorry, you have reached the limit of questions for today. Please try again tomorrow.",
        ),
    ],
    ids=["zh", "en"],
)
@pytest.mark.parametrize("platform", ["dingtalk", "feishu"])
async def test_who_has_used_up_the_day_is_told_and_is_answered_again_tomorrow(
    talk: Talk, platform: str, question: str, notice: str
) -> None:
    chat, sender = new_chat(platform), new_chat("feishu")
    for number in range(A_DAY):
        await talk.say(platform, f"{question} {number}", chat=chat, sender=sender)
    refused = await talk.say(platform, question, chat=chat, sender=sender)
    await talk.say(platform, f"{question} again", chat=chat, sender=sender)  # one notice a minute
    await talk.at_rest()
    *answers, last = await talk.texts(chat)

    assert len(answers) == A_DAY
    assert last == notice
    assert await talk.model_calls(question) == []
    assert "  rejected" in talk.stack.clawdbot("trace", refused).stdout

    end_the_day(talk.stack)
    await talk.say(platform, "morning", chat=chat, sender=sender)
    await talk.at_rest()
    assert "morning" in (await talk.texts(chat))[-1]


async def test_what_is_refused_is_accounted_for_and_what_is_answered_is_counted(talk: Talk) -> None:
    sender, before = new_chat("feishu"), rejected(talk.stack)
    for number in range(A_DAY + 2):
        await talk.say("feishu", f"count me {number}", chat=new_chat("feishu"), sender=sender)
    await talk.at_rest()

    used = json.loads(talk.stack.clawdbot("usage", "--top", "1000", "--json").stdout)
    assert rejected(talk.stack) - before == 2
    assert [bot["imbalance"] for bot in talk.stack.census().values()] == [0, 0]
    assert max(row["requests"] for row in used) <= A_DAY + 1  # one more after an ended day
    assert all(row["prompt_tokens"] and row["completion_tokens"] for row in used)


def rejected(stack: Stack) -> int:
    return sum(bot["counts"].get("rejected", 0) for bot in stack.census().values())


async def test_a_noisy_group_does_not_hold_up_the_others(talk: Talk) -> None:
    await talk.pace(latency_s=LATENCY_S)
    alone_s = statistics.median([await waits(talk) for _ in range(3)])
    noisy, began = new_chat("feishu"), time.monotonic()
    people = [new_chat("feishu") for _ in range(FLOOD)]
    said = [talk.say("feishu", f"{p}: noise", chat=noisy, group=True, sender=p) for p in people]
    await asyncio.gather(*said)
    waited = []
    while await answers_in(talk, noisy) < FLOOD - 20:
        waited.append(await waits(talk))
    await talk.at_rest(90)
    flood_s = time.monotonic() - began

    print(f"alone {alone_s:.2f} s, flood {flood_s:.1f} s, beside it {sorted(waited)}")
    assert await answers_in(talk, noisy) == FLOOD
    assert len(waited) >= 5
    assert statistics.median(waited) < flood_s / 6
    assert max(waited) < min(flood_s / 2, 10 * alone_s + GO_ON_S)


async def test_a_person_who_floods_many_chats_is_held_by_the_quota(talk: Talk) -> None:
    await talk.pace(latency_s=LATENCY_S)
    alone_s = statistics.median([await waits(talk) for _ in range(3)])
    chats, flooder = [new_chat("feishu") for _ in range(FLOOD)], new_chat("feishu")
    said = [talk.say("feishu", f"flood of {flooder}", chat=c, sender=flooder) for c in chats]
    await asyncio.gather(*said)
    waited_s = await waits(talk)
    await talk.at_rest(90)

    print(f"alone {alone_s:.2f} s, beside the flood {waited_s:.2f} s")
    assert len(await talk.model_calls(f"flood of {flooder}")) == A_DAY
    assert waited_s < FLOOD * LATENCY_S / 2  # what the flood would take without a quota


async def waits(talk: Talk) -> float:
    """Seconds until somebody new, in a chat of their own, has an answer."""
    chat, began = new_chat("feishu"), time.monotonic()
    await talk.say("feishu", f"{chat}: and me?", chat=chat, sender=chat)

    async def is_answered() -> Any:
        return await talk.texts(chat)

    await eventually(is_answered, 60, "somebody new is answered")
    return time.monotonic() - began


async def answers_in(talk: Talk, chat: str) -> int:
    return len(await talk.shown(chat))
