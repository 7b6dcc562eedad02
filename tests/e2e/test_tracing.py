"""A caller's trace reaches the model through retries, and `clawdbot trace` tells the whole way."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.stack import Stack
from tests.e2e.talk import Talk, deliver, new_chat

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN_ID = "00f067aa0ba902b7"
ROUTES = {"dingtalk": "session", "feishu": "reply"}
BUSY: dict[str, tuple[str, dict[str, Any]]] = {
    "dingtalk": ("dingtalk.session", {"kind": "errcode", "code": -1}),
    "feishu": ("feishu.reply", {"kind": "status", "status": 503}),
}


def traced(stack: Stack, name: str) -> dict[str, Any]:
    done = stack.clawdbot("trace", name, "--json")
    assert done.returncode == 0, done.stderr
    way: dict[str, Any] = json.loads(done.stdout)
    return way


@pytest.mark.parametrize("platform", ["dingtalk", "feishu"])
async def test_a_message_is_followed_from_its_caller_to_its_reply(
    talk: Talk, stack: Stack, platform: str
) -> None:
    text, chat, message_id = f"{platform}: follow me", new_chat(platform), f"om_traced_{platform}"
    target, fault = BUSY[platform]
    await talk.fault("model", "status", status=503, times=1, match=text)
    await talk.fault(target, times=1, match=text, **fault)
    request = talk.client.build(platform, conversation=chat, text=text, message_id=message_id)
    path, headers, body = request
    headers = {**headers, "traceparent": f"00-{TRACE_ID}-{SPAN_ID}-01"}

    ack = await deliver(stack, (path, headers, body))
    await talk.at_rest()

    assert ack.status == 200
    calls = [call["traceparent"].split("-") for call in await talk.model_calls(text)]
    assert [(trace_id, flags) for _, trace_id, _, flags in calls] == 2 * [(TRACE_ID, "01")]
    assert len({span for _, _, span, _ in calls} - {SPAN_ID}) == 2
    way = traced(stack, message_id)
    assert way["fate"] == "answered"
    accepted, claimed, written, answered = way["steps"]
    assert (accepted["what"], claimed["what"]) == ("accepted", "first claimed for processing")
    assert (written["attempts"], answered["attempts"]) == (2, 2)
    assert written["worker"].startswith("process@")
    assert answered["worker"].startswith("push@")
    assert answered["route"] == ROUTES[platform]
    assert answered["code"].startswith(f"{platform}:")


async def test_without_a_caller_the_models_trace_leads_back_to_the_message(
    talk: Talk, stack: Stack
) -> None:
    await talk.ask("feishu", "where do I begin?")

    (call,) = await talk.model_calls("where do I begin?")
    version, trace_id, _, flags = call["traceparent"].split("-")
    assert (version, trace_id[:8], flags) == ("00", "00000000", "00")
    assert traced(stack, trace_id)["fate"] == "answered"


async def test_a_dead_letter_tells_who_tried_and_what_came_back(talk: Talk, stack: Stack) -> None:
    text = "nobody may read this"
    await talk.fault("feishu.reply", "errcode", code=230002, message="no", times=1, match=text)
    await talk.ask("feishu", text)

    letters = json.loads(stack.clawdbot("dead", "list", "--json").stdout)
    letter = next(each for each in letters if each["text"] == text)
    way = traced(stack, letter["trace_id"])

    assert way["fate"] == "dead"
    (dead,) = [step for step in way["steps"] if step["what"].startswith("dead: ")]
    assert (dead["stage"], dead["code"]) == ("push", "feishu:230002")
    (tried,) = [step for step in way["steps"] if step.get("code") and step is not dead]
    assert tried["worker"].startswith("push@")
    assert [s["what"] for s in way["steps"]][-1].endswith("notice delivered by reply")
