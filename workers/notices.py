"""What the person reads when something went wrong: short, honest, in their language."""

from __future__ import annotations

import re

from shared.messages import Reply
from workers.quotas import Refusal

_CHINESE = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")

_FAILED = {
    "zh": "抱歉，这条消息没能处理成功，请稍后再试。（编号 {trace_id}）",
    "en": "Sorry, this message could not be answered. Please try again later. (ref {trace_id})",
}
_UNDELIVERED = {
    "zh": "抱歉，对这条消息的回答没能完整送达。（编号 {trace_id}）",
    "en": "Sorry, the answer to this message could not be delivered completely. (ref {trace_id})",
}
_REFUSED = {
    "zh": "抱歉，{who}{window}的{what}已达上限，{when}可以继续使用。",
    "en": "Sorry, {who} reached the limit of {what} for {window}. Please try again {when}.",
}
_WHO = {
    "zh": {"user": "你", "group": "本群", "bot": "机器人", "tenant": "贵公司"},
    "en": {
        "user": "you have",
        "group": "this group has",
        "bot": "this bot has",
        "tenant": "your company has",
    },
}
_WHAT = {
    "zh": {"requests": "提问次数", "tokens": "文字用量"},
    "en": {"requests": "questions", "tokens": "text"},
}
_WINDOW = {
    "zh": {"minute": ("这一分钟", "一分钟后"), "day": ("今天", "明天")},
    "en": {"minute": ("this minute", "in a minute"), "day": ("today", "tomorrow")},
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


def over_quota(text: str, refusal: Refusal) -> Reply:
    """For a message above a quota: what is used up, and when it is free again."""
    language = language_of(text)
    what, _, per = refusal.limit.partition("_per_")
    window, when = _WINDOW[language][per]
    told = _REFUSED[language].format(
        who=_WHO[language][refusal.kind], what=_WHAT[language][what], window=window, when=when
    )
    return Reply((told,), kind="notice")


def cut_mark(text: str) -> str:
    """What ends an answer that the model broke off."""
    return _CUT[language_of(text)]


def _notice(texts: dict[str, str], text: str, trace_id: str) -> Reply:
    return Reply((texts[language_of(text)].format(trace_id=trace_id),), kind="notice")
