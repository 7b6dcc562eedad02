"""What a platform room offers. Pure: no socket, no clock, no environment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from shared.http_values import HttpRequest, HttpResponse, RawRequest
from shared.messages import AddressPage, Challenge, Delivered, Event, Ignored, Part, Route, Token
from shared.platforms.steps import Step


class Inbound(Protocol):
    """The webhook half: made once per bot from its settings."""

    def receive(self, request: RawRequest, *, now: float) -> Event | Challenge | Ignored:
        """Verify, then parse. `now` is Unix time in seconds.

        Raises:
            AuthError: the caller did not prove to be the platform.
            MalformedError: the body can't be read.
        """

    def busy_answer(self) -> Mapping[str, Any] | None:
        """The body of an HTTP 200 that tells the person to send again; None if there is no such.

        It says "not taken": only for what was certainly not recorded.
        """


class Explain(Protocol):
    """`explain` of a room: the checks of its `receive`, looked at again for a reader of the log."""

    def __call__(self, settings: Any, request: RawRequest, *, now: float) -> Iterable[Step]:
        """All checks of a refused call; the one that refused it is among those that failed."""


class Outbound(Protocol):
    """The sending half: made once per bot from its settings. Builds requests, reads answers.

    codes: the codes of its errors that the platform documents, as `TaskError.code` names them;
        metrics show these alone.
    """

    codes: frozenset[str]

    def routes(self, address: Mapping[str, str], secret: str, *, now: float) -> tuple[Route, ...]:
        """The open ways to the person, best first; empty when there is none left."""

    def parts(self, text: str) -> tuple[str, ...]:
        """`text` made harmless (it can't mention anyone) and cut to what the platform takes."""

    def reply_request(self, route: Route, part: Part, token: str) -> HttpRequest:
        """The request that sends `part`. `token` is empty where the route needs none."""

    def read_reply(self, route: Route, response: HttpResponse) -> Delivered:
        """What became of the part.

        Raises:
            RateLimitedError, TransientError, OutcomeUnknownError: see `shared.errors`
            TokenRejectedError, RouteExpiredError, PermanentError: likewise
        """

    def token_requests(self) -> tuple[HttpRequest, ...]:
        """The requests for an access token, one for each listed secret: the first that is taken.

        The platform's console and our settings can't change at the same moment.
        """

    def read_token(self, response: HttpResponse) -> Token:
        """The token in an answer, its time already shortened by the refresh margin.

        Raises:
            SecretRefusedError: the secret is wrong; the next request may be taken
            RateLimitedError, TransientError, PermanentError
        """

    def addresses_request(self, token: str, page: str) -> HttpRequest | None:
        """The request for the addresses that webhooks are called from; None: none are published.

        page: "" for the first one, then as `read_addresses` tells.
        """

    def read_addresses(self, response: HttpResponse) -> AddressPage:
        """What the platform answered.

        Raises:
            RateLimitedError, TransientError, TokenRejectedError, PermanentError
        """


class Caller(Protocol):
    """Calls the gateway as the platform does, to prove that its calls get in (`clawdbot doctor`).

    Made once per bot from its settings.
    """

    def known_answers(self) -> Mapping[str, bool]:
        """Published examples of what the platform signs and encrypts: do we come to the same?"""

    def message(
        self, text: str, *, message_id: str, conversation_id: str, now: float, nonce: bytes
    ) -> RawRequest:
        """A person's one-to-one message, proved with the bot's current secrets.

        It names nobody who could be answered. nonce: 16 random bytes.
        """
