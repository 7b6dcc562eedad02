"""The checks of a webhook call, one by one, for an operator who asks why it was refused.

No fact is a secret or a signature, nor what a person wrote: of those, only lengths, forms and
fingerprints. A room's `explain` yields all its steps, also those behind the one that failed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.errors import MalformedError
from shared.platforms.signing import is_fresh, match_index, read_timestamp_ms
from shared.platforms.text import read_object

MAX_NAME_CHARS = 64  #: shown of an id that a stranger wrote
_FORMS = {
    "hex": re.compile(r"(?:[0-9a-f]{2})+", re.IGNORECASE),
    "base64": re.compile(r"(?:[A-Za-z0-9+/]{4})+(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"),
    "percent-encoded": re.compile(r"[A-Za-z0-9+/._-]*(?:%[0-9A-Fa-f]{2}[A-Za-z0-9+/._-]*)+"),
}


@dataclass(frozen=True, slots=True)
class Step:
    """One check. name: the reason of a refusal that it stands for, from a closed set."""

    name: str
    passed: bool
    facts: Mapping[str, Any] = field(default_factory=dict)


def fingerprint(text: bytes) -> str:
    """8 hex digits to compare by: `… | sha512sum | cut -c-8`.

    Neither platform signs with SHA-512, so it is no part of a signature.
    """
    return hashlib.sha512(text).hexdigest()[:8]


def form_of(presented: str) -> str:
    """How a signature is written: hex, base64, percent-encoded, absent or other."""
    if not presented:
        return "absent"
    return next((name for name, form in _FORMS.items() if form.fullmatch(presented)), "other")


def name_in(value: Any) -> str:
    """An id as far as it may be shown; what it is instead, when it is no text."""
    if isinstance(value, str):
        return value[:MAX_NAME_CHARS] if value.isprintable() else "(not printable)"
    return f"({type(value).__name__})"


def timestamp_step(header: str, *, seconds: bool, now: float, window_s: int) -> Step:
    """Whether the call's timestamp is within the window. seconds: the platform counts seconds."""
    sent_ms = read_timestamp_ms(header, seconds=seconds)
    facts: dict[str, Any] = {
        "is_present": bool(header),
        "length": len(header),
        "is_number": sent_ms is not None,
        "unit": "s" if seconds else "ms",
        "window_s": window_s,
    }
    if sent_ms is not None:
        facts["behind_our_clock_s"] = round(now - sent_ms / 1000, 3)
    is_in_seconds = read_timestamp_ms(header, seconds=True)
    if not seconds and is_fresh(is_in_seconds, now=now, window_s=window_s):
        facts["would_pass_as"] = "s"
    return Step("timestamp", is_fresh(sent_ms, now=now, window_s=window_s), facts)


def signature_facts(
    presented: str,
    secrets: Iterable[str],
    sign: Callable[[str], str],
    text_of: Callable[[str], bytes],
) -> dict[str, Any]:
    """What can be said of a signature. sign: of one secret; text_of: the text it is made over.

    matched: which secret it was made with, from 0; -1: with none of ours.
    """
    candidates = list(secrets)
    return {
        "is_present": bool(presented),
        "length": len(presented),
        "form": form_of(presented),
        "tried": len(candidates),
        "matched": match_index(presented, map(sign, candidates)),
        "signed_bytes": [len(text_of(secret)) for secret in candidates],
        "signed_text_fingerprints": [fingerprint(text_of(secret)) for secret in candidates],
    }


def first_match(presented: str, otherwise: Mapping[str, Iterable[str]]) -> str:
    """By which other way of signing `presented` would be right; "" by none of them."""
    return next((name for name, made in otherwise.items() if match_index(presented, made) >= 0), "")


def json_step(body: bytes) -> tuple[Step, dict[str, Any]]:
    """Whether the body is a JSON object; and the object, empty when it is none."""
    facts = {"bytes": len(body), "fingerprint": fingerprint(body), "is_utf8": _is_utf8(body)}
    try:
        return Step("json", True, facts), read_object(body)
    except MalformedError:
        return Step("json", False, facts), {}


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except ValueError:
        return False
    return True
