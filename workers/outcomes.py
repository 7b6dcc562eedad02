"""How attempts, calls of a model and sends end, in closed sets of words for the metrics: pure."""

from __future__ import annotations

import re
from collections.abc import Set
from enum import StrEnum

from shared.errors import (
    BreakerOpenError,
    BusyError,
    DeadlineError,
    NotSentError,
    OutcomeUnknownError,
    PermanentError,
    RateLimitedError,
    RouteExpiredError,
    TaskError,
    TokenRejectedError,
    TransientError,
)
from workers.reasons import Reason, unanswered

OK = "ok"
OTHER = "other"


class Attempt(StrEnum):
    """What became of an attempt."""

    OK = OK
    RETRY = "retry"
    BUSY = "busy"  #: our own limit of calls was reached: it did not begin
    DEAD = "dead"  #: the head became a dead letter
    LOST = "lost"  #: somebody else had the claim by then
    UNSETTLED = "unsettled"  #: Redis was away: the sweeper brings it back


CALLS = (OK, "breaker_open", "no_slot", *Reason)  #: what `of_call` may say
#: What `of_send` may say of an error, the first that fits.
_SENDS: tuple[tuple[type[Exception], str], ...] = (
    (RateLimitedError, "rate_limited"),
    (NotSentError, "not_sent"),
    (DeadlineError, "too_slow"),
    (OutcomeUnknownError, "unknown"),
    (TokenRejectedError, "token_rejected"),
    (RouteExpiredError, "route_expired"),
    (PermanentError, "refused"),
    (TransientError, "failed"),
)
SENDS = (OK, *(word for _, word in _SENDS), OTHER)

#: Codes of our own client and caches (`workers/client.py`, `deadline.py`, `tokens.py`).
_OURS = frozenset(
    {"http:connect", "http:cut", "http:dns", "http:not_sent", "http:request", "http:too_large"}
    | {"deadline:total", "deadline:stalled", "token:busy", "token:redis"}
)
_STATUS = re.compile(r"[a-z]+:http_([1-5])\d\d")


def of_call(error: TaskError) -> str:
    """The class of an error of a model's call."""
    if isinstance(error, BreakerOpenError):
        return "breaker_open"
    return "no_slot" if isinstance(error, BusyError) else unanswered(error)


def of_send(error: TaskError) -> str:
    """The class of an error of a send."""
    return next((word for kind, word in _SENDS if isinstance(error, kind)), OTHER)


def code_label(code: str, known: Set[str]) -> str:
    """`code` where a room documents it (`known`) or it is ours; a bare status by its class."""
    if code in known or code in _OURS:
        return code
    status = _STATUS.fullmatch(code)
    return f"http_{status[1]}xx" if status else OTHER
