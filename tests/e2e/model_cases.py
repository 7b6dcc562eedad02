"""A fault of a model's endpoint and what the person reads: the words of the tests about it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from shared.state.keys import BotKeys
from tests.e2e.stack import Stack
from tests.e2e.talk import Talk
from tests.simulator.credentials import FEISHU_APP_ID

TASK_TIMEOUT_S = 2
#: A stack in which every failure is final; other tests show what is tried again.
IMPATIENT = {
    "CLAWDBOT_RETRY__PROCESS_LIMIT_S": "0",
    "CLAWDBOT_TASK_TIMEOUT_S": str(TASK_TIMEOUT_S),
    "CLAWDBOT_MODEL_CALLS__BREAKER_FAILURES": "0",  # these failures are meant
}
#: What endpoints say of themselves or repeat of the person; none of it may reach a chat.
VENDOR_WORDS = "upstream pod llm-7f9c at 10.0.3.7 said no"
SAYS = {"message": VENDOR_WORDS}
FILTERED = "content_filter"
TOOL = {"finish_reason": "tool_calls"}
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


def spoken(name: str, kind: str, reads: str, **more: Any) -> Case:
    """A fault of the answer itself."""
    return Case(name, kind, reads, more)


def refusal(status: int, reads: str, code: str = "", **headers: str) -> Case:
    """An endpoint's error under its own status. headers: with `_` for `-`."""
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    more = {"status": status, "code": code, "message": VENDOR_WORDS, "headers": told}
    words = [f"HTTP {status}", code, *(f"{name} {value}" for name, value in told.items())]
    return Case(" ".join(filter(None, words)), "errcode", reads, more)


def under_200(name: str, reads: str, value: Any, **headers: str) -> Case:
    """What comes under HTTP 200 in the place of an answer."""
    return Case(name, "status", reads, {"status": 200, "body": value, "headers": headers})


def qianfan(code: Any, member: str = "error_code") -> dict[str, Any]:
    return {member: code, "error_msg": VENDOR_WORDS, "message": VENDOR_WORDS}


async def check(case: Case, talk: Talk) -> None:
    """Order the fault, ask, and look at what stands in the chat."""
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
        assert_failed(talk.stack, read, case.reads)


def assert_failed(stack: Stack, read: str, why: str) -> None:
    """The person reads why, and the number there leads to the dead letter."""
    found = re.search(r"（编号 (\w+)）", read)
    assert found, read
    assert read == f"抱歉，这条消息没能处理成功：{WHY[why]}（编号 {found[1]}）"
    bot = BotKeys("feishu", stack.credentials[FEISHU_APP_ID])
    assert stack.redis.zscore(bot.dead, found[1]), "it leads to the letter"
