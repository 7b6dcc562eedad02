"""Whatever happens, its label is one of a few words."""

from __future__ import annotations

import pytest

from shared.errors import (
    BreakerOpenError,
    BusyError,
    DeadlineError,
    FailedForNowError,
    KeyRefusedError,
    NotSentError,
    OutcomeUnknownError,
    PermanentError,
    RateLimitedError,
    RouteExpiredError,
    TaskError,
    TokenRejectedError,
    TransientError,
)
from workers.outcomes import CALLS, SENDS, code_label, of_call, of_send

ERRORS = (
    *(BreakerOpenError, BusyError, DeadlineError, KeyRefusedError, NotSentError, PermanentError),
    *(OutcomeUnknownError, RateLimitedError, RouteExpiredError, TaskError, TokenRejectedError),
    *(TransientError, FailedForNowError),
)
KNOWN = frozenset({"feishu:230002"})


@pytest.mark.parametrize("kind", ERRORS)
def test_every_error_has_a_class(kind: type[TaskError]) -> None:
    assert of_call(kind("somebody:else")) in CALLS
    assert of_send(kind("somebody:else")) in SENDS


def test_calls_that_were_not_made_are_told_apart() -> None:
    assert of_call(BreakerOpenError("model:breaker_open")) == "breaker_open"
    assert of_call(BusyError("model:busy")) == "no_slot"
    assert of_call(DeadlineError("deadline:stalled")) == "too_slow"


@pytest.mark.parametrize(
    ("code", "label"),
    [
        ("feishu:230002", "feishu:230002"),
        ("feishu:230003", "other"),
        ("feishu:http_502", "http_5xx"),
        ("dingtalk:http_403", "http_4xx"),
        ("feishu:http_999", "other"),
        ("http:connect", "http:connect"),
        ("deadline:total", "deadline:total"),
        ("dingtalk:Whatever.The.Vendor.Says", "other"),
    ],
)
def test_a_code_that_nobody_documents_is_other(code: str, label: str) -> None:
    assert code_label(code, KNOWN) == label
