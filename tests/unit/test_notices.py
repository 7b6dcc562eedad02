"""What the person reads when something went wrong."""

from __future__ import annotations

import pytest

from workers import notices


@pytest.mark.parametrize(
    ("text", "language"), [("你好", "zh"), ("hi 吗", "zh"), ("hello", "en"), ("", "en")]
)
def test_the_notice_is_in_the_language_of_the_message(text: str, language: str) -> None:
    assert notices.language_of(text) == language


@pytest.mark.parametrize("make", [notices.failed, notices.undelivered])
def test_a_notice_names_the_trace_id_and_nothing_of_the_message(make) -> None:
    for text in ("my secret question", "我的秘密问题"):
        notice = make(text, "abc123")

        assert notice.kind == "notice"
        assert "abc123" in notice.parts[0]
        assert "secret" not in notice.parts[0]
        assert "秘密" not in notice.parts[0]
