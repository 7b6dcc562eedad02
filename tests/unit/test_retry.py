"""Every row of the fate table in `workers.retry`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import (
    BusyError,
    DeadlineError,
    NotSentError,
    OutcomeUnknownError,
    PermanentError,
    RateLimitedError,
    RouteExpiredError,
    TokenRejectedError,
    TransientError,
    UnknownHereError,
)
from workers.retry import Dead, Policy, Retry, backoff_s, decide, describe

POLICY = Policy(limit_s=600, base_s=0.5, cap_s=60)
TRANSIENT = [
    TransientError("model:500"),
    RateLimitedError("model:429"),
    NotSentError("http:connect"),
    OutcomeUnknownError("http:cut"),
    DeadlineError("deadline:stalled"),
    TokenRejectedError("feishu:99991663"),
    UnknownHereError("bot:unknown"),
]


def fate(error: Exception, attempt: int = 1, now: float = 1000, since: float = 1000, r: float = 1):
    return decide(error, attempt, now, since=since, entered=since, policy=POLICY, rng=lambda: r)


@pytest.mark.parametrize("error", TRANSIENT, ids=lambda e: type(e).__name__)
def test_a_transient_error_is_retried_with_backoff(error: Exception) -> None:
    assert fate(error, attempt=3) == Retry(1000 + 2.0)


@pytest.mark.parametrize("error", TRANSIENT, ids=lambda e: type(e).__name__)
def test_a_transient_error_past_the_stages_limit_is_dead(error: Exception) -> None:
    verdict = fate(error, attempt=9, now=1600, since=1000)

    assert isinstance(verdict, Dead)
    assert verdict.reason.startswith("gave up after 9 attempts in 600 s")


def test_waiting_for_our_own_limit_never_ends_in_death() -> None:
    busy = BusyError("model:busy", retry_after_s=1.0)

    assert fate(busy, attempt=1, now=99_999, since=0, r=0.5) == Retry(99_999 + 1.0)


@pytest.mark.parametrize("error", [PermanentError("feishu:230002"), RouteExpiredError("session")])
def test_a_permanent_error_is_dead_at_once(error: Exception) -> None:
    assert fate(error) == Dead(str(error))


def test_the_wait_that_was_asked_for_is_obeyed() -> None:
    assert fate(RateLimitedError("x", retry_after_s=52), r=0) == Retry(1052)


def test_a_wait_beyond_the_limit_is_dead() -> None:
    assert isinstance(fate(RateLimitedError("x", retry_after_s=601)), Dead)


@pytest.mark.parametrize(
    ("attempt", "entered", "is_dead"),
    [(3, 399, True), (3, 401, False), (2, 399, False), (3, 1001, False)],
)
def test_what_nobody_here_can_read_has_the_stages_limit_since_it_came_to_the_stage(
    attempt: int, entered: float, is_dead: bool
) -> None:
    error = UnknownHereError("bot:unknown")

    verdict = decide(
        error, attempt, 1000, since=1000, entered=entered, policy=POLICY, rng=lambda: 0
    )

    assert isinstance(verdict, Dead) is is_dead


def test_a_failing_head_has_the_limit_for_itself_however_long_it_waited() -> None:
    verdict = decide(
        TransientError("model:503"), 9, 1000, since=999, entered=0, policy=POLICY, rng=lambda: 0
    )

    assert verdict == Retry(1000)


def test_our_bug_is_tried_three_times() -> None:
    assert isinstance(fate(KeyError("secret text"), attempt=2), Retry)
    verdict = fate(KeyError("secret text"), attempt=3)
    assert isinstance(verdict, Dead)
    assert verdict.reason.startswith("bug:KeyError at")


def test_a_bugs_own_text_is_never_told() -> None:
    try:
        raise ValueError("what the person wrote")
    except ValueError as error:
        told = describe(error)

    assert "wrote" not in told
    assert "test_retry.py" in told


@given(attempt=st.integers(1, 10_000), r=st.floats(0, 1, exclude_max=True))
def test_backoff_stays_between_zero_and_its_cap(attempt: int, r: float) -> None:
    wait = backoff_s(attempt, POLICY, lambda: r)

    assert 0 <= wait <= min(POLICY.cap_s, POLICY.base_s * 2 ** min(attempt - 1, 32))
