"""What is kept of a conversation."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from workers.conversation import Memory, read
from workers.model.estimate import MESSAGE_TOKENS


def entries(*texts: str) -> list[str]:
    return [who + text for who, text in zip("ua" * len(texts), texts, strict=False)]


def test_the_new_turn_is_remembered_and_the_oldest_forgotten() -> None:
    new, keep = Memory(2, 10_000).with_turn(entries("1", "2", "3", "4"), "q", "a")

    assert [read(entry) for entry in new] == [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "a"},
    ]
    assert keep == 4  # one old turn and the new one


def test_zero_turns_remember_nothing() -> None:
    assert Memory(0, 10_000).with_turn(entries("1", "2"), "q", "a") == ([], 0)


def test_tokens_bound_the_history_as_well() -> None:
    memory = Memory(10, 10_000, max_tokens=4 * (10 + MESSAGE_TOKENS), count=lambda _: 10)

    _, keep = memory.with_turn(entries(*"123456"), "q", "a")

    assert keep == 4


def test_a_tighter_token_limit_holds_for_what_was_stored_before() -> None:
    stored = entries(*"123456")
    memory = Memory(10, 10_000, max_tokens=2 * (10 + MESSAGE_TOKENS), count=lambda _: 10)

    assert memory.newest(stored) == stored[-2:]
    assert Memory(10, 10_000).newest(stored) == stored


def test_entries_of_earlier_releases_are_read() -> None:
    assert read(json.dumps({"role": "user", "content": "{你好}"})) == {
        "role": "user",
        "content": "{你好}",
    }


def test_a_lone_surrogate_does_not_stop_the_turn() -> None:
    new, _ = Memory(2, 1000).with_turn([], "\ud800", "a")

    assert read(new[0]) == {"role": "user", "content": "?"}


@given(
    texts=st.lists(st.text(max_size=50), max_size=20),
    answer=st.text(max_size=3000),
    max_bytes=st.integers(400, 4000),
    turns=st.integers(1, 10),
)
def test_what_is_kept_stays_within_both_budgets(
    texts: list[str], answer: str, max_bytes: int, turns: int
) -> None:
    history = entries(*texts)[: len(texts) // 2 * 2]

    new, keep = Memory(turns, max_bytes).with_turn(history, "q", answer)

    kept = (history + new)[-keep:]
    assert 2 <= keep <= 2 * turns
    assert keep % 2 == 0
    assert sum(len(entry.encode("utf-8", "replace")) for entry in kept) <= max_bytes
