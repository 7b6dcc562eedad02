"""Exchanging an AccessKey pair for a short-lived key, within a call's deadline."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

from shared.errors import (
    DeadlineError,
    KeyRefusedError,
    OutcomeUnknownError,
    PermanentError,
    RateLimitedError,
    TaskError,
    TransientError,
)
from shared.http_values import HttpRequest, HttpResponse
from shared.messages import Token
from workers.client import HttpClient
from workers.deadline import Deadline
from workers.keys.pair import KeyPair
from workers.model.errors import server_delay_s

LIFETIME_S = 86_400  #: asked for; a new one costs a call, a leaked one is good for this long
MARGIN_S = 600  #: it is not used for as long before its end: calls of a minute begin with it

#: The clouds' codes for a signature made at a wrong time.
CLOCK_CODES = frozenset({"InvalidTimestamp", "RequestExpired", "RequestTimeTooSkewed"})

#: The clouds' codes for a pair that is wrong, whatever status they come with. Baidu says 400 to a
#: wrong secret (https://cloud.baidu.com/doc/Reference/s/Bjz3uz3qj), Volcengine to an id that can't
#: be one (https://www.volcengine.com/docs/6369/68677).
PAIR_CODES = frozenset(
    {
        "InvalidAccessKey",
        "InvalidAccessKeyId",
        "InvalidAuthorization",
        "InvalidCredential",
        "InvalidHTTPAuthHeader",
        "InvalidSecretToken",
        "SignatureDoesNotMatch",
    }
)


class Exchange(Protocol):
    """How one cloud gives a key for a pair. Pure."""

    cloud: str

    def request(self, pair: KeyPair, *, now: float) -> HttpRequest:
        """The signed request. now: Unix time."""

    def read(self, response: HttpResponse, *, now: float) -> Token:
        """The key in an answer of status 200, its time already shortened by the margin.

        Raises:
            KeyError, TypeError, ValueError: it is not what the cloud documents.
        """

    def error_code(self, response: HttpResponse) -> str:
        """The cloud's own code in an error; empty when there is none."""


class Exchanger:
    """Exchanges pairs at one cloud. Thread-safe. clock: Unix time."""

    def __init__(self, exchange: Exchange, client: HttpClient, clock: Callable[[], float]) -> None:
        self._exchange = exchange
        self._client = client
        self._clock = clock

    def fetch(self, pair: KeyPair, deadline: Deadline) -> Token:
        """A new key. Getting one is progress for the deadline.

        Raises:
            KeyRefusedError: the cloud does not accept the pair
            TransientError: may succeed later; also when time is over
            PermanentError: never will
        """
        now = self._clock()
        try:
            response = self._client.send(self._exchange.request(pair, now=now), deadline)
        except OutcomeUnknownError as error:  # a second key does no harm
            kind = DeadlineError if error.code.startswith("deadline:") else TransientError
            raise kind(error.code, f"{self._exchange.cloud}: {error.detail}") from error
        token = self._read(response, now)
        deadline.progress()
        return token

    def _read(self, response: HttpResponse, now: float) -> Token:
        code = self._exchange.error_code(response)
        if response.status != 200 or code:
            raise refusal(self._exchange.cloud, response, code, now=now)
        try:
            token = self._exchange.read(response, now=now)
        except (KeyError, TypeError, ValueError):
            raise TransientError(
                f"{self._exchange.cloud}:unreadable",
                "the exchange of the AccessKey pair gave no key: check the model's auth_endpoint",
            ) from None  # the answer may hold the key
        if token.expires_in_s <= 0:
            raise TransientError(
                f"{self._exchange.cloud}:expired",
                "the key given for the AccessKey pair is past its end: check this machine's clock",
            )
        return token


def refusal(cloud: str, response: HttpResponse, code: str, *, now: float) -> TaskError:
    """What it means that an exchange was answered so."""
    status = response.status
    name = f"{cloud}:{code or status}"
    if code in CLOCK_CODES:
        return TransientError(name, "it says the signature's time is wrong: check our clock (NTP)")
    if status in (401, 403) or code in PAIR_CODES:
        return KeyRefusedError(name, "it refused the AccessKey pair: see `clawdbot keys verify`")
    wait_s = server_delay_s(response.headers, now=now) or 0.0
    if status == 429:
        return RateLimitedError(name, "it asks for fewer exchanges", retry_after_s=wait_s)
    if status >= 500 or status == 408:
        return TransientError(name, f"it answered {status}", retry_after_s=wait_s)
    return PermanentError(
        name, "it refused to exchange the AccessKey pair: check auth_endpoint and resource_ids"
    )


def short_code(code: object) -> str:
    """A cloud's error code, fit for a log line; empty for what is none."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", code)[:64] if isinstance(code, str) else ""


def key_text(value: object) -> str:
    """Raises: TypeError, when the value is no key."""
    if not isinstance(value, str) or not value:
        raise TypeError("a key is a text")
    return value


def usable_s(lifetime_s: float) -> float:
    """For how long a key of this lifetime is used: not in its last minutes."""
    return lifetime_s - min(MARGIN_S, lifetime_s / 10)
