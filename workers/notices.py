"""What the person reads besides answers: that it takes longer, that it failed and why.

Short, honest, in their language; nothing of a vendor, a host or what was written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from shared.messages import Reply
from workers.quotas import Refusal
from workers.reasons import Reason

_CHINESE = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")

Texts = Mapping[str, str]  #: by language

_WORKING: Texts = {"zh": "还在处理，请稍等。", "en": "Still working on it, one moment please."}
_FAILED: Texts = {
    "zh": "抱歉，这条消息没能处理成功：{why}（编号 {trace_id}）",
    "en": "Sorry, this message could not be answered. {why} (ref {trace_id})",
}
_WHY_FAILED: Mapping[Reason, Texts] = {
    Reason.TOO_SLOW: {
        "zh": "模型用时过长，请稍后再试。",
        "en": "The model took too long; please try again later.",
    },
    Reason.BUSY: {
        "zh": "模型现在太忙，请过几分钟再试。",
        "en": "The model is too busy; please try again in a few minutes.",
    },
    Reason.AWAY: {
        "zh": "模型暂时不可用，请稍后再试。",
        "en": "The model is not available at the moment; please try again later.",
    },
    Reason.NO_ANSWER: {
        "zh": "模型没有给出回答，换个说法也许可以。",
        "en": "The model gave no answer; other words may help.",
    },
    Reason.REFUSED: {
        "zh": "内容被模型的审核拦下，请换个说法。",
        "en": "The model's content filter held it back; please use other words.",
    },
    Reason.TOO_LONG: {
        "zh": "内容超出模型能处理的长度，请缩短后再试。",
        "en": "It is longer than the model can read; please make it shorter.",
    },
    Reason.SETUP: {
        "zh": "机器人的设置有误，请告知管理员。",
        "en": "The bot is not set up correctly; please tell your administrator.",
    },
    Reason.OURS: {
        "zh": "机器人自身出了故障，请告知管理员。",
        "en": "The bot itself has a fault; please tell your administrator.",
    },
}
_UNDELIVERED: Texts = {
    "zh": "抱歉，对这条消息的回答没能完整送达：{why}（编号 {trace_id}）",
    "en": "Sorry, the answer to this message could not be delivered completely. {why} "
    "(ref {trace_id})",
}
_WHY_UNDELIVERED: Mapping[Reason, Texts] = {
    Reason.BUSY: {
        "zh": "聊天平台暂时不接受更多消息。",
        "en": "The chat takes no more messages for the moment.",
    },
    Reason.AWAY: {"zh": "聊天平台没有响应。", "en": "The chat did not respond."},
    Reason.REFUSED: {"zh": "聊天平台没有接受它。", "en": "The chat did not accept it."},
    Reason.UNCERTAIN: {"zh": "它也可能已经送达。", "en": "Perhaps it arrived all the same."},
    Reason.OURS: _WHY_FAILED[Reason.OURS],
}
_CUT: Texts = {"zh": "\n\n（回答中断，以上不完整。）", "en": "\n\n(The answer was cut short here.)"}
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
#: Of a message that waited until its minute or day was over.
_PAST_WINDOW = {
    "zh": {"minute": ("当时那一分钟", "现在"), "day": ("昨天", "现在")},
    "en": {"minute": ("that minute", "now"), "day": ("yesterday", "now")},
}


def language_of(text: str) -> str:
    """`zh` if the text has a Chinese character, else `en`."""
    return "zh" if _CHINESE.search(text) else "en"


def working(text: str) -> Reply:
    """For a message whose answer takes longer. `text`: what the person wrote."""
    return Reply((_WORKING[language_of(text)],), kind="working")


def failed(text: str, trace_id: str, why: Reason) -> Reply:
    """For a message that got no answer."""
    return _notice(_FAILED, _WHY_FAILED[why], text, trace_id)


def undelivered(text: str, trace_id: str, why: Reason) -> Reply:
    """For a message whose answer exists but did not get through."""
    return _notice(_UNDELIVERED, _WHY_UNDELIVERED[why], text, trace_id)


def over_quota(text: str, refusal: Refusal) -> Reply:
    """For a message above a quota: what is used up, and when it is free again."""
    language = language_of(text)
    what, _, per = refusal.limit.partition("_per_")
    window, when = (_WINDOW if refusal.free_s else _PAST_WINDOW)[language][per]
    told = _REFUSED[language].format(
        who=_WHO[language][refusal.kind], what=_WHAT[language][what], window=window, when=when
    )
    return Reply((told,), kind="notice")


def cut_mark(text: str) -> str:
    """What ends an answer that the model broke off."""
    return _CUT[language_of(text)]


def _notice(texts: Texts, reasons: Texts, text: str, trace_id: str) -> Reply:
    language = language_of(text)
    told = texts[language].format(why=reasons[language], trace_id=trace_id)
    return Reply((told,), kind="notice")
