"""What a hostile call is: bytes for a socket, and what may come of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.integration.gateway import encrypt, plain_body, sign
from tests.simulator.events import Request

CLOSED = 0  #: among the answers: the connection ended without one
REFUSED = frozenset({400, 401, 403, 404, 405, 413, 417})
REFUSED_OR_CLOSED = REFUSED | {CLOSED}
IGNORED = frozenset({200})
ANY = REFUSED_OR_CLOSED | IGNORED


@dataclass(frozen=True, slots=True)
class Case:
    """One hostile call.

    answers: the statuses it may get. events: how many it may record; None: it is harmless, and
        whether it is taken or refused does not matter.
    half_closes: nothing more is sent behind it; else the answer is waited for.
    """

    name: str
    wire: bytes
    answers: frozenset[int] = REFUSED
    events: int | None = 0
    half_closes: bool = False


def wire_of(
    request: Request, *, method: str = "POST", path: str | None = None, more: Iterable[str] = ()
) -> bytes:
    """A call as it should be; `more`: header lines."""
    own, headers, body = request
    given = {"Host": "gateway", "Connection": "close", "Content-Length": str(len(body)), **headers}
    lines = [
        f"{method} {own if path is None else path} HTTP/1.1",
        *(f"{k}: {v}" for k, v in given.items()),
        *more,
    ]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + body


def head_of(request: Request, *lines: str | bytes) -> bytes:
    """The head of a signed call with these lines about its body, and an empty line."""
    own, headers, _ = request
    given = {"Host": "gateway", "Connection": "close", **headers}
    start = [f"POST {own} HTTP/1.1", *(f"{k}: {v}" for k, v in given.items())]
    both = [line if isinstance(line, bytes) else line.encode() for line in (*start, *lines)]
    return b"\r\n".join([*both, b"", b""])


def signed(platform: str, text: str | bytes) -> Request:
    """These bytes as the platform would send them: encrypted where it encrypts, and signed."""
    body = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    return sign(platform, encrypt(body) if platform == "feishu" else body)


def said(platform: str, body: Mapping[str, Any]) -> Request:
    """The same of a JSON object; lone surrogates stay, as escapes."""
    return signed(platform, json.dumps(body))


def message(platform: str, name: str, **more: Any) -> dict[str, Any]:
    """A text message in a conversation of its own, as JSON. Its ids come from `name` alone.

    more: as for `plain_body`.
    """
    mark = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    ids = {"message_id": f"om_{mark}", "event_id": f"ev_{mark}"}
    return plain_body(platform, conversation=f"oc_{mark}", **ids, **more)
