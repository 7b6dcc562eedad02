"""Who an event is counted for, and how many tokens where nobody counted them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from shared.local_time import utc_offset_s
from shared.messages import Event
from workers.model.chat import Answer
from workers.model.estimate import estimate
from workers.usage import Consumers, Usage

MESSAGES = [{"role": "system", "content": "x" * 40}, {"role": "user", "content": "你好"}]


def an_event(**more: Any) -> Event:
    return Event("feishu", "cli_1", "om_1", "ev_1", "oc_1", "hi", **more)


def test_a_group_is_a_consumer_and_a_chat_of_two_is_none() -> None:
    alone = an_event(sender_id="ou_1", tenant_id="t1")
    group = an_event(sender_id="ou_1", is_group=True)

    assert Consumers.of(alone).ids() == [("user", "ou_1"), ("bot", "cli_1"), ("tenant", "t1")]
    assert Consumers.of(group).ids() == [("user", "ou_1"), ("group", "oc_1"), ("bot", "cli_1")]


def test_what_the_endpoint_counted_is_believed() -> None:
    used = Usage.of(an_event(), MESSAGES, Answer("words", "stop", 70, 9), 28_800)

    assert (used.prompt_tokens, used.completion_tokens) == (70, 9)


@pytest.mark.parametrize("told", [0, -5, 10**30], ids=["nothing", "negative", "absurd"])
def test_what_it_did_not_count_is_estimated(told: int) -> None:
    used = Usage.of(an_event(), MESSAGES, Answer("x" * 8, "stop", told, told), 0)

    assert (used.prompt_tokens, used.completion_tokens) == (12, 2)


def test_what_the_model_thought_is_paid_for_too() -> None:
    used = Usage.of(an_event(), MESSAGES, Answer("x" * 8, "stop", reasoning="y" * 40), 0)

    assert used.completion_tokens == 12


def test_a_very_long_id_is_counted_under_its_digest() -> None:
    (field,) = Usage(Consumers("u" * 500, "", "cli_1", ""), 1, 1, 0).fields()

    assert len(field) == len("user:~") + 24


def test_every_event_is_counted_for_a_user_known_or_not() -> None:
    assert Usage(Consumers("", "oc_1", "cli_1", "t1"), 1, 1, 0).fields() == [
        "user:",
        "group:oc_1",
        "tenant:t1",
    ]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("a", 1),
        ("abcd", 1),
        ("abcde", 2),
        ("你好", 2),
        ("你好, world", 4),
        ("ありがとう", 5),
    ],
)
def test_an_estimate_counts_chinese_by_character_and_the_rest_by_four(
    text: str, tokens: int
) -> None:
    assert estimate(text) == tokens


@pytest.mark.parametrize(
    ("zone", "summer_s", "winter_s"),
    [("Asia/Shanghai", 28_800, 28_800), ("Europe/Berlin", 7200, 3600), ("UTC", 0, 0)],
)
def test_the_offset_is_that_of_the_day(zone: str, summer_s: int, winter_s: int) -> None:
    def at(month: int) -> int:
        noon = datetime(2026, month, 15, 12, tzinfo=UTC)
        return utc_offset_s(ZoneInfo(zone), int(noon.timestamp() * 1000))

    assert (at(7), at(1)) == (summer_s, winter_s)
