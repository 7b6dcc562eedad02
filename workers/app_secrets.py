"""An access token for one of an app's listed secrets: in a rotation any may be in force."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from shared.errors import SecretRefusedError
from shared.http_values import HttpRequest, HttpResponse
from shared.messages import Token
from shared.platforms.base import Outbound


@dataclass(frozen=True, slots=True)
class Fetched:
    """A token. refusals: of the secrets listed before the one that gave it."""

    token: Token
    refusals: tuple[SecretRefusedError, ...]


def fetch_token(outbound: Outbound, send: Callable[[HttpRequest], HttpResponse]) -> Fetched:
    """Ask with each listed secret until one is taken.

    Raises:
        SecretRefusedError: none was; the first one's, which is the one that should be in force
        TaskError: `send`'s, or see `Outbound.read_token`; no other secret is tried then
    """
    refusals: list[SecretRefusedError] = []
    for request in outbound.token_requests():
        try:
            return Fetched(outbound.read_token(send(request)), tuple(refusals))
        except SecretRefusedError as error:
            refusals.append(error)
    raise refusals[0]
