"""The fate of a failed attempt, decided in one pure function.

| what | fate |
|---|---|
| permanent (refused content, unknown conversation, revoked key) | dead at once |
| no route to the person is left | dead at once |
| transient (timeouts, 429, 5xx, cut connections) | retry, never sooner than asked |
| our own limit of calls is reached | again about as soon as asked, however often: nothing failed |
| our bug (any other exception) | three attempts, then dead |
| a bot or key that this process lacks | as transient; a backlog of them has one limit together |
| a retry that would come after the stage's limit | dead: the lane goes on |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from shared.errors import (
    BusyError,
    PermanentError,
    RouteExpiredError,
    TaskError,
    TransientError,
    UnknownHereError,
)

MAX_BUG_ATTEMPTS = 3
#: What this process can't read is tried as often in any case: another one, or a replay, may do.
MIN_ELSEWHERE_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Policy:
    """How a stage retries. `limit_s`: how long a failing head may hold its lane."""

    limit_s: float
    base_s: float
    cap_s: float


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again at `at` (the time base of the `now` that was given)."""

    at: float


@dataclass(frozen=True, slots=True)
class Dead:
    """Give up. `reason` is short, safe to log, and tells the operator what happened."""

    reason: str


def decide(
    error: Exception,
    attempt: int,
    now: float,
    *,
    since: float,
    entered: float,
    policy: Policy,
    rng: Callable[[], float],
) -> Retry | Dead:
    """What becomes of a head whose attempt number `attempt` (from 1) ended in `error`.

    since: when the head's first attempt in this stage began. entered: when it came to the stage.
    rng: uniform in [0, 1).
    """
    if isinstance(error, PermanentError | RouteExpiredError):
        return Dead(str(error))
    if isinstance(error, BusyError):
        return Retry(now + error.retry_after_s * (0.5 + rng()))
    if not isinstance(error, TransientError) and attempt >= MAX_BUG_ATTEMPTS:
        return Dead(describe(error))
    asked = error.retry_after_s if isinstance(error, TransientError) else 0.0
    at = now + max(asked, backoff_s(attempt, policy, rng))
    if isinstance(error, UnknownHereError) and attempt >= MIN_ELSEWHERE_ATTEMPTS:
        # Nobody may ever read it: what waited behind others like it had its time meanwhile.
        since = min(since, entered)
    if at - since > policy.limit_s:
        return Dead(f"gave up after {attempt} attempts in {now - since:.0f} s: {describe(error)}")
    return Retry(at)


def backoff_s(attempt: int, policy: Policy, rng: Callable[[], float]) -> float:
    """Exponential backoff with full jitter: uniform between 0 and base·2^(attempt−1), capped."""
    ceiling = policy.base_s * 2.0 ** min(attempt - 1, 32)
    return rng() * min(ceiling, policy.cap_s)


def describe(error: Exception) -> str:
    """An error in a line: our own as they are, others by type and place, never by their text."""
    if isinstance(error, TaskError):
        return str(error)
    trace, place = error.__traceback__, "?"
    while trace is not None:
        code = trace.tb_frame.f_code
        place = f"{code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno} {code.co_name}"
        trace = trace.tb_next
    return f"bug:{type(error).__name__} at {place}"
