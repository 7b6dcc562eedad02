"""A bot's chain of models: who is asked, in which order, and which error is told."""

from __future__ import annotations

from typing import Any

import pytest

from shared.errors import (
    BreakerOpenError,
    BusyError,
    DeadlineError,
    KeyRefusedError,
    PermanentError,
    RateLimitedError,
    TaskError,
    TransientError,
)
from shared.trace_context import Trace
from workers.deadline import Deadline
from workers.model.chain import Models
from workers.model.chat import Answer, OnText

CHAIN = ("main", "backup", "last")


class Said:
    """In an endpoint's place: answers, or fails with what it was given."""

    def __init__(self, name: str, outcome: TaskError | None, uses_up: bool = False) -> None:
        self.name = name
        self._outcome = outcome
        self._uses_up = uses_up

    def answer(
        self, _: Any, deadline: Deadline, __: str, *, on_text: OnText, slot_wait_s: float = 0
    ) -> Answer:
        if self._uses_up:
            deadline.end()
        is_free = isinstance(self._outcome, BusyError) and slot_wait_s > 0
        if self._outcome is not None and not is_free:
            raise self._outcome
        return Answer(f"I am {self.name}", model=self.name)


def ask(*outcomes: TaskError | None, attempt: int = 1, uses_up: bool = False) -> Answer:
    said = {
        name: Said(name, outcome, uses_up) for name, outcome in zip(CHAIN, outcomes, strict=False)
    }
    models = Models(said)  # type: ignore[arg-type]
    return models.answer(CHAIN, [], Deadline(60, 5), Trace("trace"), attempt=attempt)


def test_the_preferred_model_answers() -> None:
    assert ask(None, None).model == "main"


@pytest.mark.parametrize(
    "error",
    [
        TransientError("model:500"),
        RateLimitedError("model:429", retry_after_s=30),
        KeyRefusedError("model:401"),
        PermanentError("model:404"),
        PermanentError("model:insufficient_quota"),
        BreakerOpenError("model:breaker_open"),
        BusyError("model:busy"),
    ],
    ids=lambda error: error.code,
)
def test_a_model_that_can_not_answer_is_passed_over(error: TaskError) -> None:
    assert ask(error, None).model == "backup"


def test_the_filters_decision_stands() -> None:
    with pytest.raises(PermanentError, match="model:content_filter"):
        ask(PermanentError("model:content_filter"), None)


def test_nobody_is_asked_after_the_time_is_over() -> None:
    with pytest.raises(DeadlineError):
        ask(DeadlineError("deadline:stalled"), None, uses_up=True)


def test_the_next_attempt_begins_with_the_next_model() -> None:
    assert ask(None, None, None, attempt=2).model == "backup"
    assert ask(None, None, None, attempt=4).model == "main"
    assert ask(None, TransientError("model:500"), attempt=2).model == "main"


def test_of_all_failures_the_one_with_most_hope_is_told() -> None:
    limited = RateLimitedError("model:429", retry_after_s=30)
    with pytest.raises(TransientError, match="model:500"):
        ask(KeyRefusedError("model:401"), limited, TransientError("model:500"))
    with pytest.raises(KeyRefusedError, match="model:401"):
        ask(KeyRefusedError("model:401"), PermanentError("model:404"))


def test_a_busy_model_is_waited_for_when_nobody_else_can() -> None:
    busy = BusyError("model:busy")

    assert ask(busy, TransientError("model:500"), busy).model == "main"
    assert ask(busy, None).model == "backup"


def test_without_any_model_the_setting_is_named() -> None:
    with pytest.raises(PermanentError, match="CLAWDBOT_ENDPOINT"):
        Models({}).answer(("default",), [], Deadline(60, 5), Trace("trace"))
