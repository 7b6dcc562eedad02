"""Good calls with a few bytes changed, the same ones in every run."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

from tests.hostile.case import ANY, IGNORED, REFUSED, Case, message, said, signed, wire_of

SEED = 6
COUNT = 80
_NASTY = (
    b"\x00",
    b"\r\n",
    b"\n",
    b":",
    b" ",
    b"\xff",
    b"%",
    b'"',
    b"}",
    b"{",
    b"\\",
    b",",
    b"-",
    b"9" * 30,
)


def on_the_wire(platform: str) -> Iterator[Case]:
    """Changed after signing. DingTalk's signature covers no body, nor do headers have one."""
    rng = random.Random(SEED)
    for n in range(COUNT):
        wire = wire_of(said(platform, message(platform, f"mutant {n}")))
        told, changed = _changed(rng, wire)
        yield Case(f"mutant {n}: {told}", changed, ANY | {408}, None, half_closes=True)


def under_the_signature(platform: str) -> Iterator[Case]:
    """Changed before signing: whoever makes it knows the secret."""
    rng = random.Random(SEED + 1)
    for n in range(COUNT):
        plain = json.dumps(message(platform, f"signed mutant {n}")).encode()
        told, changed = _changed(rng, plain)
        wire = wire_of(signed(platform, changed))
        yield Case(f"signed mutant {n}: {told}", wire, IGNORED | REFUSED, None)


def _changed(rng: random.Random, raw: bytes) -> tuple[str, bytes]:
    names = []
    for _ in range(rng.randint(1, 3)):
        change = rng.choice((_flip, _drop, _insert, _double))
        names.append(change.__name__[1:])
        raw = change(rng, raw)
    return " and ".join(names), raw


def _flip(rng: random.Random, raw: bytes) -> bytes:
    at = rng.randrange(len(raw))
    return raw[:at] + bytes([raw[at] ^ 1 << rng.randrange(8)]) + raw[at + 1 :]


def _drop(rng: random.Random, raw: bytes) -> bytes:
    at = rng.randrange(len(raw))
    return raw[:at] + raw[at + rng.randint(1, 9) :]


def _insert(rng: random.Random, raw: bytes) -> bytes:
    at = rng.randrange(len(raw))
    return raw[:at] + rng.choice(_NASTY) + raw[at:]


def _double(rng: random.Random, raw: bytes) -> bytes:
    at = rng.randrange(len(raw))
    return raw[:at] + raw[at : at + rng.randint(1, 40)] + raw[at:]
