"""Looks for secrets in whatever the gateway shows or keeps, however they are spelled there."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote, quote_plus

SHORTEST = 8  #: a shorter text stands anywhere by chance


@dataclass(frozen=True, slots=True)
class Leak:
    """Where something stood that must not; it doesn't repeat it."""

    where: str
    what: str
    spelling: str


class Needles:
    """Named secrets in all their spellings."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        short = [name for name, secret in secrets.items() if len(secret) < SHORTEST]
        assert not short, f"too short to be looked for: {short}"
        self._spelled = [
            (name, spelling, text)
            for name, secret in secrets.items()
            for spelling, text in spellings(secret)
        ]

    def found_in(self, places: Iterable[tuple[str, bytes]]) -> list[Leak]:
        """places: a name for each, and what stands there."""
        return [
            Leak(where, name, spelling)
            for where, content in places
            for name, spelling, text in self._spelled
            if text in content
        ]


def spellings(secret: str) -> Iterator[tuple[str, bytes]]:
    """`secret` as logs, URLs, JSON (also inside of JSON) and base64 may hold it."""
    raw = secret.encode()
    escaped = json.dumps(secret)[1:-1]
    texts = {
        "plain": secret,
        "JSON": escaped,
        "JSON with slashes": escaped.replace("/", "\\/"),
        "JSON twice": json.dumps(escaped)[1:-1],
        "URL": quote(secret, safe=""),
        "form": quote_plus(secret),
        "URL in small letters": _small_escapes(quote(secret, safe="")),
        "hex": raw.hex(),
    }
    seen: set[bytes] = set()
    for name, text in texts.items():
        if (spelled := text.encode()) not in seen:
            seen.add(spelled)
            yield name, spelled
    for offset in range(3):
        for name, encode in (
            ("base64", base64.b64encode),
            ("URL base64", base64.urlsafe_b64encode),
        ):
            yield f"{name}, {offset} bytes behind a border", _inner(encode, raw, offset)


def _inner(encode: object, raw: bytes, offset: int) -> bytes:
    """The characters that are the same whatever stands before and behind `raw`."""
    assert callable(encode)
    encoded: bytes = encode(b"\0" * offset + raw)
    first = -(-8 * offset // 6)
    last = (8 * (offset + len(raw))) // 6
    return encoded[first:last]


def _small_escapes(text: str) -> str:
    pieces = text.split("%")
    return "%".join([pieces[0], *(each[:2].lower() + each[2:] for each in pieces[1:])])
