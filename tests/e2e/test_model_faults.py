"""Every fault of a model's endpoint, as the person in the chat sees it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from shared.state.keys import BotKeys
from tests.e2e.stack import Stack
from tests.e2e.talk import Talk
from tests.simulator.credentials import FEISHU_APP_ID

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

TASK_TIMEOUT_S = 2
#: What endpoints say of themselves or repeat of the person; none of it may reach a chat.
VENDOR_WORDS = "upstream pod llm-7f9c at 10.0.3.7 said no"
FILTERED = "content_filter"
PAGE = f"<html><body><h1>{VENDOR_WORDS}</h1></body></html>"
ANSWER = "你说：{text}\n（演示模型的回答，这是我们的第一轮对话。）"
CUT = "\n\n（回答中断，以上不完整。）"
WHY = {
    "too slow": "模型用时过长，请稍后再试。",
    "busy": "模型现在太忙，请过几分钟再试。",
    "away": "模型暂时不可用，请稍后再试。",
    "no answer": "模型没有给出回答，换个说法也许可以。",
    "refused": "内容被模型的审核拦下，请换个说法。",
    "too long": "内容超出模型能处理的长度，请缩短后再试。",
    "setup": "机器人的设置有误，请告知管理员。",
}


@dataclass(frozen=True)
class Case:
    """A fault, by its name in the simulator, and what the person reads.

    reads: `whole`, `cut`, or why there is no answer.
    """

    name: str
    kind: str
    reads: str
    more: dict[str, Any] = field(default_factory=dict)


def stream(name: str, kind: str, reads: str, **more: Any) -> Case:
    return Case(name, kind, reads, more)


def refusal(status: int, reads: str, code: str = "", **headers: str) -> Case:
    """An endpoint's error under its own status."""
    more = {"status": status, "code": code, "message": VENDOR_WORDS, "headers": headers}
    return Case(f"HTTP {status} {code}".strip(), "errcode", reads, more)


def under_200(name: str, reads: str, value: Any, **headers: str) -> Case:
    """What comes under HTTP 200 in the place of an answer."""
    return Case(name, "status", reads, {"status": 200, "body": value, "headers": headers})


def qianfan(code: Any, member: str = "error_code") -> dict[str, Any]:
    return {member: code, "error_msg": VENDOR_WORDS, "message": VENDOR_WORDS}


SAYS = {"message": VENDOR_WORDS}
CASES = [
    # Streams that are as good as any.
    stream("torn into CRLF, comments, lines, half characters", "ragged", "whole"),
    stream("reasoning beside the answer", "think", "whole", **SAYS),
    stream("a finish_reason and no [DONE]", "unfinished", "whole", after_tokens=5),
    # Streams that stop: what was said is shown, marked as cut.
    stream("length", "finish", "cut", after_tokens=2),
    stream("filtered after some text", "finish", "cut", after_tokens=2, finish_reason=FILTERED),
    stream("cut connection after some text", "cut", "cut", after_tokens=2),
    stream("neither finish_reason nor [DONE]", "unfinished", "cut", after_tokens=2),
    stream("stalled after some text", "hang", "cut", after_tokens=2),
    stream("error event after some text", "error_event", "cut", after_tokens=2, **SAYS),
    # No text: why.
    stream("filtered, content null", "finish", "refused", finish_reason=FILTERED),
    stream("error event", "error_event", "away", code="server_error", **SAYS),
    stream("error event: too many", "error_event", "busy", code="rate_limit_exceeded", **SAYS),
    stream("an empty answer", "empty", "no answer"),
    stream("cut connection before any text", "cut", "away"),
    stream("a stream without events", "unfinished", "setup"),
    stream("hang up", "drop", "away"),
    stream("silence", "hang", "too slow"),
    stream("drip", "drip", "too slow", bytes_per_s=2),
    under_200("an HTML page", "setup", PAGE, **{"Content-Type": "text/html"}),
    under_200("an empty body", "setup", ""),
    under_200("Qianfan: requests a minute", "busy", qianfan("rpm_rate_limit_exceeded", "code")),
    under_200("Qianfan: tokens a minute", "busy", qianfan("tpm_rate_limit_exceeded", "code")),
    under_200("Qianfan: requests a minute, a number", "busy", qianfan(336501)),
    under_200("Qianfan: tokens a minute, a number", "busy", qianfan(336502)),
    under_200("Qianfan: QPS", "busy", qianfan(18)),
    under_200("Qianfan: overloaded", "busy", qianfan(336100)),
    under_200("Qianfan: anything else", "away", qianfan(336003)),
    refusal(400, "setup", "invalid_messages"),
    refusal(400, "too long", "context_length_exceeded"),
    refusal(400, "refused", FILTERED),
    refusal(404, "setup", "model_not_found"),
    refusal(408, "too slow"),
    refusal(429, "busy", "rate_limit_exceeded", **{"Retry-After": "7"}),
    refusal(429, "setup", "insufficient_quota"),
    refusal(500, "away"),
    refusal(502, "away"),
    refusal(503, "busy"),
    refusal(504, "too slow"),
    refusal(403, "setup", "access_denied"),
    refusal(401, "setup", "invalid_api_key"),
]


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack in which every failure is final; other tests show what is tried again."""
    settings = {
        "CLAWDBOT_RETRY__PROCESS_LIMIT_S": "0",
        "CLAWDBOT_TASK_TIMEOUT_S": str(TASK_TIMEOUT_S),
        "CLAWDBOT_MODEL_CALLS__BREAKER_FAILURES": "0",  # these failures are meant
    }
    with Stack(tmp_path_factory.mktemp("impatient") / "run", settings=settings) as stack:
        yield stack


@pytest.fixture
async def talk(impatient: Stack) -> AsyncIterator[Talk]:
    async with impatient.client() as client:
        await client.control("reset")
        await client.control("model", {"latency_s": 0, "tokens": 4, "token_interval_s": 0})
        yield Talk(impatient, client)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_what_a_person_reads(case: Case, talk: Talk, impatient: Stack) -> None:
    text = f"请问：{case.name}？"
    whole = ANSWER.format(text=text)
    await talk.fault("model", case.kind, match=text, times=0, **case.more)

    (read,) = await talk.ask("feishu", text)

    if case.reads == "whole":
        assert read == whole
    elif case.reads == "cut":
        said = read.removesuffix(CUT)
        assert said != read
        assert len(said) > 5
        assert whole.startswith(said)
        assert said != whole
    else:
        (trace_id,) = re.findall(r"（编号 (\w+)）", read)
        assert read == f"抱歉，这条消息没能处理成功：{WHY[case.reads]}（编号 {trace_id}）"
        bot = BotKeys("feishu", impatient.credentials[FEISHU_APP_ID])
        assert impatient.redis.zscore(bot.dead, trace_id), "it leads to the letter"


async def test_the_reason_is_told_in_english_to_who_writes_english(talk: Talk) -> None:
    await talk.fault("model", "errcode", status=500, message=VENDOR_WORDS, match="why not")

    (read,) = await talk.ask("dingtalk", "why not?")

    assert re.fullmatch(
        r"Sorry, this message could not be answered. The model is not available at the moment; "
        r"please try again later. \(ref \w+\)",
        read,
    )


async def test_no_word_of_an_endpoint_is_kept(talk: Talk, impatient: Stack) -> None:
    await talk.fault("model", "errcode", status=400, message=VENDOR_WORDS)
    await talk.fault("model", "error_event", message=VENDOR_WORDS)
    for text in ("first", "second"):
        await talk.ask("feishu", text)

    kept = impatient.clawdbot("dead", "list", "--json").stdout
    assert '"text": "second"' in kept
    assert VENDOR_WORDS not in kept
    assert VENDOR_WORDS not in impatient.log_text()
