"""What the person reads when something went wrong: short, honest, in their language."""

from __future__ import annotations

import re

from shared.messages import Reply

_CHINESE = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")

_FAILED = {
    "zh": "抱歉，这条消息没能处理成功，请稍后再试。（编号 {trace_id}）",
    "en": "Sorry, this message could not be answered. Please try again later. (ref {trace_id})",
}
_UNDELIVERED = {
    "zh": "抱歉，对这条消息的回答没能完整送达。（编号 {trace_id}）",
    "en": "Sorry, the answer to this message could not be delivered completely. (ref {trace_id})",
}
_CUT = {"zh": "\n\n（回答中断，以上不完整。）", "en": "\n\n(The answer was cut short here.)"}


def language_of(text: str) -> str:
    """`zh` if the text has a Chinese character, else `en`."""
    return "zh" if _CHINESE.search(text) else "en"


def failed(text: str, trace_id: str) -> Reply:
    """For a message that got no answer. `text`: what the person wrote."""
    return _notice(_FAILED, text, trace_id)


def undelivered(text: str, trace_id: str) -> Reply:
    """For a message whose answer exists but did not get through."""
    return _notice(_UNDELIVERED, text, trace_id)


def cut_mark(text: str) -> str:
    """What ends an answer that the model broke off."""
    return _CUT[language_of(text)]


def _notice(texts: dict[str, str], text: str, trace_id: str) -> Reply:
    return Reply((texts[language_of(text)].format(trace_id=trace_id),), kind="notice")
