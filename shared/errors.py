"""The error tree. Every leaf says what happened; `workers.retry` decides what becomes of it.

ClawdBotError
├── ConfigError               settings are wrong: exit code 2, every problem named
├── RequestRejectedError      a webhook call that is not let in
│   ├── AuthError             401: signature, timestamp, token, robot or corp id
│   └── MalformedError        400: authentic or not, it can't be read
├── StateError                Redis
│   ├── StateUnavailableError could not record or answer in time: 503, try again
│   │   └── NotRecordedError  Redis was not even asked: certainly not recorded
│   └── ClaimLostError        somebody else has claimed the lane's head: drop the work
└── TaskError                 a stage's attempt failed
    ├── TransientError        may succeed later
    │   ├── RateLimitedError    the other side asked for a wait
    │   ├── NotSentError        failed before a request byte went out: certainly not done
    │   ├── OutcomeUnknownError request bytes went out, no answer came: perhaps done
    │   ├── DeadlineError       no progress within the deadline
    │   ├── BreakerOpenError    the model failed too often: it is left alone for a while
    │   ├── UnknownHereError    this process lacks a bot or a key that another one may have
    │   ├── BusyError           our own limit of calls is reached: not even an attempt
    │   └── TokenRejectedError  the platform refused our access token: fetch a new one
    ├── RouteExpiredError     this way to the person is closed: take the next route
    └── PermanentError        will never succeed: dead letter at once
        ├── KeyRefusedError     the model's endpoint refused the key: try another
        │   └── NoKeyError        there is no key to ask with: the endpoint was not asked
        ├── FailedForNowError   the model fails, and another try is of no use while anybody waits
        └── SecretRefusedError  the platform refused the app's secret: try the next listed one
"""

from __future__ import annotations


class ClawdBotError(Exception):
    """Base of all our errors."""


class ConfigError(ClawdBotError):
    """The settings can't be used; `problems`: one sentence a fault, naming its setting."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class RequestRejectedError(ClawdBotError):
    """A webhook call refused before anything was recorded. `reason` is from a closed set."""

    status = 400

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class AuthError(RequestRejectedError):
    """The caller did not prove to be the platform, or the call is not for this bot."""

    status = 401


class MalformedError(RequestRejectedError):
    """The body can't be read as what the platform sends."""

    status = 400


class StateError(ClawdBotError):
    """Redis could not do what was asked."""


class StateUnavailableError(StateError):
    """Redis did not answer in time, or refused to write."""


class NotRecordedError(StateUnavailableError):
    """Redis was away before it was asked: nothing can have been recorded."""


class ClaimLostError(StateError):
    """Another worker holds the lane's head now; what this one did must not be recorded."""


class TaskError(ClawdBotError):
    """An attempt of a stage failed.

    code: short and stable, from the vendor or ours (`feishu:230002`, `model:429`); safe to log.
    detail: one sentence for the operator; never message text, secrets or signatures.
    """

    def __init__(self, code: str, detail: str = "") -> None:
        self.code = code
        self.detail = detail
        super().__init__(f"{code}: {detail}" if detail else code)


class TransientError(TaskError):
    """May succeed later. `retry_after_s` is the least wait the other side asked for (0: none)."""

    def __init__(self, code: str, detail: str = "", *, retry_after_s: float = 0.0) -> None:
        super().__init__(code, detail)
        self.retry_after_s = retry_after_s


class RateLimitedError(TransientError):
    """The other side wants us to slow down."""


class NotSentError(TransientError):
    """Failed before any request byte was sent."""


class OutcomeUnknownError(TransientError):
    """The request may have been carried out, and nobody told us."""


class DeadlineError(TransientError):
    """No progress within the deadline."""


class BreakerOpenError(TransientError):
    """The model failed too often and is not called for `retry_after_s`."""


class UnknownHereError(TransientError):
    """This process lacks the bot, or the key of what is sealed; another one may have it."""


class BusyError(TransientError):
    """Our own limit of calls at once is reached: the attempt did not begin."""


class TokenRejectedError(TransientError):
    """The platform says that our access token is invalid or expired."""


class RouteExpiredError(TaskError):
    """The route (a session webhook) is closed for good; another may be open."""


class PermanentError(TaskError):
    """Repeating the same request can't help."""


class KeyRefusedError(PermanentError):
    """The model's endpoint does not accept the key; another one may be accepted."""


class NoKeyError(KeyRefusedError):
    """There is no key, or the cloud gives none for the pairs: the model was not asked."""


class FailedForNowError(PermanentError):
    """The model's endpoint fails and wants no other try, or none for longer than anybody waits.

    It is its own failure, not the request's. `retry_after_s`: the wait it asked for (0: none).
    """

    def __init__(self, code: str, detail: str = "", *, retry_after_s: float = 0.0) -> None:
        super().__init__(code, detail)
        self.retry_after_s = retry_after_s


class SecretRefusedError(PermanentError):
    """The platform gives no token for the app's secret; another listed one may be the app's."""
