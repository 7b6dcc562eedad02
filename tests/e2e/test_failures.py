"""What people see when the model or a platform fails: the answer, late, once; or an honest word."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from tests.e2e.stack import Stack
from tests.e2e.talk import Talk, deliver, eventually, new_chat
from tests.simulator.client import SignedClient

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

PLATFORMS = ["dingtalk", "feishu"]
#: A passing failure of each send API.
BUSY: dict[str, tuple[str, dict[str, Any]]] = {
    "dingtalk": ("dingtalk.session", {"kind": "errcode", "code": -1}),
    "feishu": ("feishu.reply", {"kind": "status", "status": 503}),
}


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_a_model_that_fails_first_answers_in_the_end(talk: Talk, platform: str) -> None:
    question = f"{platform}: patience"
    await talk.fault("model", "status", status=503, times=2, match=question)

    texts = await talk.ask(platform, question)

    assert len(texts) == 1
    assert texts[0].startswith(f"You said: {question}")
    assert [c["outcome"] for c in await talk.model_calls(question)] == ["status", "status", "done"]


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_a_failed_push_never_pays_for_the_model_again(talk: Talk, platform: str) -> None:
    question = f"{platform}: knock twice"
    target, fault = BUSY[platform]
    await talk.fault(target, times=2, match=question, **fault)

    texts = await talk.ask(platform, question)

    assert len(texts) == 1
    assert len(await talk.model_calls(question)) == 1


async def test_a_hanging_model_is_given_up_and_asked_again(talk: Talk) -> None:
    await talk.fault("model", "hang", match="hangs")
    slow, quick = new_chat("feishu"), new_chat("dingtalk")
    started = time.monotonic()
    await talk.say("feishu", "this one hangs", chat=slow)
    await talk.say("dingtalk", "this one flies", chat=quick)

    await eventually(lambda: talk.shown(quick), 4, "the other conversation is answered")
    assert not await talk.shown(slow)
    await talk.at_rest()

    assert len(await talk.texts(slow)) == 1
    assert len(await talk.model_calls("this one hangs")) == 2
    assert time.monotonic() - started < 20


async def test_a_model_that_hangs_after_some_text_is_written_back_as_cut(talk: Talk) -> None:
    await talk.fault("model", "hang", after_tokens=1, match="stops", answer_text="Half an answer")

    (text,) = await talk.ask("feishu", "it stops")

    assert text.startswith("Half")
    assert text.endswith("(The answer was cut short here.)")
    assert len(await talk.model_calls("it stops")) == 1


async def test_a_model_that_drips_is_given_up_and_asked_again(talk: Talk) -> None:
    await talk.fault("model", "drip", bytes_per_s=1, match="drips")

    texts = await talk.ask("dingtalk", "it drips")

    assert len(texts) == 1
    assert [c["outcome"] for c in await talk.model_calls("it drips")] == ["abandoned", "done"]


async def test_a_platform_that_drips_is_given_up_and_shows_one_message(talk: Talk) -> None:
    chat = new_chat("feishu")
    await talk.fault("feishu.reply", "drip", bytes_per_s=1, match="slow platform")
    await talk.say("feishu", "slow platform", chat=chat)
    await talk.at_rest()

    assert [send["outcome"] for send in await talk.sends(chat)] == ["visible", "repeat"]
    assert len(await talk.model_calls("slow platform")) == 1


async def test_a_slow_platform_does_not_hold_up_the_model_stage(talk: Talk) -> None:
    await talk.fault("feishu.reply", "hang", delay_s=4, times=16)  # every slot of the push worker
    first = [new_chat("feishu") for _ in range(16)]
    await asyncio.gather(*(talk.say("feishu", f"{c} waits.", chat=c) for c in first))
    await talk.say("feishu", "is the model awake?", chat=new_chat("feishu"))

    async def was_asked() -> bool:
        calls = await talk.model_calls("is the model awake?")
        return [call["outcome"] for call in calls] == ["done"]

    await eventually(was_asked, 3.5, "the model answers while the platform hangs")
    await talk.at_rest()
    assert (await talk.client.stats())["unanswered"] == 0


async def test_an_expired_session_webhook_is_replaced_by_the_robot(talk: Talk) -> None:
    chat = new_chat("dingtalk")
    await talk.say("dingtalk", "sent long ago", chat=chat, webhook_expires_in_s=30)
    await talk.at_rest()

    assert [send["route"] for send in await talk.shown(chat)] == ["robot"]


@pytest.mark.parametrize("group", [False, True], ids=["alone", "in a group"])
async def test_a_session_that_expires_early_is_replaced_by_the_robot(
    talk: Talk, group: bool
) -> None:
    chat = new_chat("dingtalk")
    await talk.pace(latency_s=1)
    await talk.say("dingtalk", "be quick", chat=chat, group=group)
    await talk.client.control("sessions/expire")
    await talk.at_rest()

    sends = [(send["route"], send["outcome"]) for send in await talk.sends(chat)]
    assert sends == [("session", "refused"), ("robot", "visible")]
    assert len(await talk.model_calls("be quick")) == 1


@pytest.mark.parametrize(
    ("platform", "webhook_expires_in_s"), [("feishu", 5400), ("dingtalk", 30)], ids=PLATFORMS[::-1]
)
async def test_an_expired_token_is_fetched_again(
    talk: Talk, platform: str, webhook_expires_in_s: int
) -> None:
    async def ask(text: str) -> list[dict[str, str]]:
        chat = new_chat(platform)
        await talk.say(platform, text, chat=chat, webhook_expires_in_s=webhook_expires_in_s)
        await talk.at_rest()
        return await talk.sends(chat)

    await ask("with a token")
    # The other platform's stay good: the tests that follow on this stack count its sends.
    await talk.client.control(f"tokens/expire?platform={platform}")
    sends = await ask("without one")

    assert [send["outcome"] for send in sends] == ["refused", "visible"]
    assert len(await talk.model_calls("without one")) == 1


@pytest.mark.parametrize(
    ("platform", "question", "sorry"),
    [
        ("feishu", "please break for good", "Sorry, this message could not be answered."),
        ("dingtalk", "请彻底失败一次", "抱歉，这条消息没能处理成功"),
    ],
)
async def test_a_final_failure_ends_in_one_notice_and_a_letter_to_replay(
    talk: Talk, stack: Stack, platform: str, question: str, sorry: str
) -> None:
    chat = new_chat(platform)
    await talk.fault("model", "status", status=400, times=0, match=question)
    message_id = await talk.say(platform, question, chat=chat)
    await talk.at_rest()

    (notice,) = await talk.texts(chat)
    letters = json.loads(stack.clawdbot("dead", "list", "--json").stdout)
    (letter,) = [one for one in letters if one["message_id"] == message_id]
    assert notice.startswith(sorry)
    assert letter["trace_id"] in notice
    assert (letter["stage"], letter["text"]) == ("process", question)
    assert letter["reason"].startswith("model:400")

    await talk.client.control("faults", method="DELETE")
    replayed = stack.clawdbot("dead", "replay", letter["trace_id"])
    await talk.at_rest()
    again = stack.clawdbot("dead", "replay", letter["trace_id"])
    await talk.at_rest()

    assert replayed.returncode == 0, replayed.stderr
    assert again.returncode == 1
    texts = await talk.texts(chat)
    assert len(texts) == 2
    assert question in texts[1]
    assert question not in stack.clawdbot("dead", "list", "--json").stdout


async def test_a_model_that_never_recovers_is_given_up_after_the_limit(
    talk: Talk, stack: Stack
) -> None:
    chat = new_chat("feishu")
    headers = {"Retry-After": "60"}  # longer than the 30 s a head may wait here
    await talk.fault("model", "status", status=503, headers=headers, times=0, match="never")
    await talk.say("feishu", "never mind", chat=chat)
    await talk.say("feishu", "and the next one?", chat=chat)
    await talk.at_rest()

    first, second = await talk.texts(chat)
    assert {first.partition(",")[0], second.partition("\n")[0]} == {
        "Sorry",
        "You said: and the next one?",
    }
    assert "gave up after 1 attempt" in stack.clawdbot("dead", "list").stdout


async def test_a_lost_response_shows_one_message_in_feishu(talk: Talk) -> None:
    chat = new_chat("feishu")
    await talk.fault("feishu.reply", "lose_response", match="lost")
    await talk.say("feishu", "lost and found", chat=chat)
    await talk.at_rest()

    sends = await talk.sends(chat)
    assert [send["outcome"] for send in sends] == ["visible", "repeat"]
    assert len({send["uuid"] for send in sends}) == 1


async def test_a_lost_response_is_repeated_in_dingtalk(talk: Talk, stack: Stack) -> None:
    chat = new_chat("dingtalk")
    before = _uncertain(stack)
    await talk.fault("dingtalk.session", "lose_response", match="lost")
    await talk.say("dingtalk", "lost and found", chat=chat)
    await talk.at_rest()

    assert [send["outcome"] for send in await talk.sends(chat)] == ["visible", "visible"]
    assert len(await talk.model_calls("lost and found")) == 1
    assert _uncertain(stack) == before + 1


async def test_a_lost_response_is_held_for_a_person_where_the_bot_says_so(
    talk: Talk, stack: Stack
) -> None:
    chat = new_chat("dingtalk")
    async with SignedClient(stack.more_credentials, stack.ingress_url, stack.more_url) as client:
        await client.control("reset")
        await client.control(
            "faults", {"target": "dingtalk.session", "kind": "lose_response", "times": 1}
        )
        request = client.build("dingtalk", conversation=chat, text="handle with care")
        ack = await deliver(stack, request, bot="careful")
        await talk.at_rest()
        answer, notice = [r["text"] for r in await client.ledger() if r["kind"] == "send"]

    letters = json.loads(stack.clawdbot("dead", "list", "--json").stdout)
    (letter,) = [one for one in letters if one["conversation_id"] == chat]
    assert ack.status == 200
    assert answer.startswith("You said: handle with care")
    assert notice.startswith("Sorry, the answer to this message could not be delivered completely")
    assert (letter["stage"], letter["reason"].partition(":")[0]) == ("push", "uncertain_send")


def _uncertain(stack: Stack) -> int:
    counts = (bot["counts"] for bot in stack.census().values())
    return sum(bot.get("uncertain", 0) for bot in counts)
