"""Why a message finally failed, in the few words that its writer may know: pure functions.

The vendor's code and words are for the operator (`clawdbot dead show`); the person gets a class.
"""

from __future__ import annotations

from enum import StrEnum

from shared.errors import (
    DeadlineError,
    FailedForNowError,
    RateLimitedError,
    TaskError,
    TransientError,
)


class Reason(StrEnum):
    """What the person is told."""

    TOO_SLOW = "too_slow"  #: no progress in time
    BUSY = "busy"  #: too many calls at the moment
    AWAY = "away"  #: not reachable, or failing
    NO_ANSWER = "no_answer"  #: it answered, and said nothing usable
    REFUSED = "refused"  #: the content was not accepted
    TOO_LONG = "too_long"  #: more than the model can read
    SETUP = "setup"  #: key, address or model are set up wrongly: the administrator's
    UNCERTAIN = "uncertain"  #: perhaps it arrived, and is not sent again
    OURS = "ours"  #: a bug


_UNANSWERED = {
    "model:content_filter": Reason.REFUSED,
    "model:context_length_exceeded": Reason.TOO_LONG,
    "model:413": Reason.TOO_LONG,
    "model:408": Reason.TOO_SLOW,
    "model:504": Reason.TOO_SLOW,
    "celery:soft_time_limit": Reason.TOO_SLOW,
    "model:429": Reason.BUSY,
    "model:503": Reason.BUSY,
    "model:529": Reason.BUSY,
    "model:336100": Reason.BUSY,  # Qianfan: overloaded
    "model:empty": Reason.NO_ANSWER,
    "model:bad_event": Reason.NO_ANSWER,
    "model:not_events": Reason.SETUP,
    "model:not_json": Reason.SETUP,
    "poison": Reason.OURS,
}


def unanswered(error: Exception) -> Reason:
    """Why there is no answer: `error` ended the last attempt to get one."""
    if not isinstance(error, TaskError):
        return Reason.OURS
    if error.code in _UNANSWERED:
        return _UNANSWERED[error.code]
    if _is_deadline(error):
        return Reason.TOO_SLOW
    if isinstance(error, RateLimitedError):
        return Reason.BUSY
    if isinstance(error, TransientError | FailedForNowError):
        return Reason.AWAY
    return Reason.SETUP


def undelivered(error: Exception) -> Reason:
    """Why the answer did not get through: `error` ended the last attempt to send it."""
    if not isinstance(error, TaskError) or error.code == "poison":
        return Reason.OURS
    if error.code == "uncertain_send":
        return Reason.UNCERTAIN
    if isinstance(error, RateLimitedError):
        return Reason.BUSY
    return Reason.AWAY if isinstance(error, TransientError) else Reason.REFUSED


def _is_deadline(error: TaskError) -> bool:
    return isinstance(error, DeadlineError) or error.code.startswith("deadline:")
