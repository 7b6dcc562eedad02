"""What the person reads when something went wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from shared.messages import Reply
from workers import notices
from workers.quotas import LIMITS, Refusal
from workers.reasons import Reason
from workers.usage import KINDS as CONSUMERS

LOST = [Reason.BUSY, Reason.AWAY, Reason.REFUSED, Reason.UNCERTAIN, Reason.OURS]
FAILED = [reason for reason in Reason if reason is not Reason.UNCERTAIN]


@pytest.mark.parametrize(
    ("text", "language"), [("你好", "zh"), ("hi 吗", "zh"), ("hello", "en"), ("", "en")]
)
def test_the_notice_is_in_the_language_of_the_message(text: str, language: str) -> None:
    assert notices.language_of(text) == language


KINDS = [
    *((notices.failed, reason) for reason in FAILED),
    *((notices.undelivered, reason) for reason in LOST),
]


@pytest.mark.parametrize(("make", "reason"), KINDS)
def test_a_notice_names_the_trace_id_and_nothing_of_the_message(
    make: Callable[[str, str, Reason], Reply], reason: Reason
) -> None:
    for text in ("my secret question", "我的秘密问题"):
        notice = make(text, "abc123", reason)

        assert notice.kind == "notice"
        assert "abc123" in notice.parts[0]
        assert "secret" not in notice.parts[0]
        assert "秘密" not in notice.parts[0]


def test_every_reason_has_words_of_its_own() -> None:
    for text in ("why?", "为什么？"):
        told = {make(text, "abc123", reason).parts[0] for make, reason in KINDS}

        assert len(told) == len(KINDS)


def test_what_takes_longer_is_told_in_one_s_language_and_without_a_reference() -> None:
    assert notices.working("how long?").parts == ("Still working on it, one moment please.",)
    assert notices.working("多久？").parts == ("还在处理，请稍等。",)
    assert notices.working("").kind == "working"


def test_the_three_kinds_of_replies_have_different_idempotency_keys() -> None:
    kinds = [Reply(("text",)), notices.working("hi"), notices.failed("hi", "t", Reason.OURS)]

    assert len({reply.key("trace-1", 0) for reply in kinds}) == 3


@pytest.mark.parametrize(
    ("kind", "limit", "free_s", "english", "chinese"),
    [
        (
            "user",
            "requests_per_day",
            9,
            "Sorry, you have reached the limit of questions for today. Please try again tomorrow.",
            "抱歉，你今天的提问次数已达上限，明天可以继续使用。",
        ),
        (
            "group",
            "tokens_per_minute",
            9,
            "Sorry, this group has reached the limit of text for this minute. "
            "Please try again in a minute.",
            "抱歉，本群这一分钟的文字用量已达上限，一分钟后可以继续使用。",
        ),
        (
            "user",
            "requests_per_minute",
            0,
            "Sorry, you have reached the limit of questions for that minute. Please try again now.",
            "抱歉，你当时那一分钟的提问次数已达上限，现在可以继续使用。",
        ),
        (
            "bot",
            "tokens_per_day",
            0,
            "Sorry, this bot has reached the limit of text for yesterday. Please try again now.",
            "抱歉，机器人昨天的文字用量已达上限，现在可以继续使用。",
        ),
    ],
)
def test_who_is_over_a_quota_reads_of_what_and_until_when(
    kind: str, limit: str, free_s: int, english: str, chinese: str
) -> None:
    refusal = Refusal(kind, limit, free_s)

    assert notices.over_quota("hello", refusal).parts == (english,)
    assert notices.over_quota("你好", refusal).parts == (chinese,)


def test_every_limit_of_everybody_has_its_words() -> None:
    told = {
        notices.over_quota(text, Refusal(kind, limit, 9)).parts
        for text in ("hello", "你好")
        for kind in CONSUMERS
        for limit in LIMITS
    }

    assert len(told) == 2 * len(CONSUMERS) * len(LIMITS)
