"""Counting tokens: the estimate, and a real tokenizer where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.model.estimate import counter, estimate


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 0), ("word", 1), ("words", 2), ("你好", 2), ("你好 abc", 3), ("😀", 1)],
)
def test_estimate(text: str, tokens: int) -> None:
    assert estimate(text) == tokens


def test_a_real_tokenizer_counts_exactly(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="an extra")
    file = tmp_path / "tokenizer.json"
    words = {"[UNK]": 0, "good": 1, "morning": 2}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(file))

    assert counter(file)("good morning") == 2
    assert estimate("good morning") == 3


def test_a_tokenizer_that_can_not_be_used_is_told_and_replaced_by_the_estimate(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    count = counter(tmp_path / "missing.json")

    assert count("word") == 1
    (record,) = caplog.records
    assert "CLAWDBOT_CONVERSATION__TOKENIZER" in record.metadata["error"]  # type: ignore[attr-defined]
