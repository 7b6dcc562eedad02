"""What the model is shown and what is kept."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from workers.conversation import prompt, remember


def entries(*texts: str) -> list[str]:
    return [json.dumps({"role": "user", "content": text}) for text in texts]


def test_the_prompt_is_system_then_history_then_the_message() -> None:
    messages = prompt("be kind", entries("q", "a"), "now?")

    assert [m["content"] for m in messages] == ["be kind", "q", "a", "now?"]
    assert messages[0]["role"] == "system"
    assert messages[-1]["role"] == "user"


def test_no_system_prompt_means_no_system_message() -> None:
    assert [m["role"] for m in prompt("", [], "hi")] == ["user"]


def test_the_new_turn_is_remembered_and_the_oldest_forgotten() -> None:
    new, keep = remember(entries("1", "2", "3", "4"), "q", "a", turns=2, max_bytes=10_000)

    assert [json.loads(e)["content"] for e in new] == ["q", "a"]
    assert keep == 4  # one old turn and the new one


def test_zero_turns_remember_nothing() -> None:
    assert remember(entries("1", "2"), "q", "a", turns=0, max_bytes=10_000) == ([], 0)


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

    new, keep = remember(history, "q", answer, turns=turns, max_bytes=max_bytes)

    kept = (history + new)[-keep:]
    assert 2 <= keep <= 2 * turns
    assert keep % 2 == 0
    old_bytes = sum(len(entry.encode()) for entry in kept[:-2])
    assert old_bytes <= max_bytes
