"""Proving that a call comes from the platform: comparison in constant time, replay window."""

from __future__ import annotations

import hmac
from collections.abc import Iterable

#: A timestamp header with at least this many digits counts milliseconds.
#: Seconds have ten digits until the year 2286.
_MILLISECOND_DIGITS = 12
_MAX_DIGITS = 16


def match_index(presented: str, accepted: Iterable[str]) -> int:
    """Which of `accepted` `presented` is, from 0; -1 for none.

    Tries all: time doesn't tell a stranger how far he came.
    """
    given = _bytes(presented)
    matches = [hmac.compare_digest(given, _bytes(candidate)) for candidate in accepted]
    return matches.index(True) if True in matches else -1


def read_timestamp_ms(header: str, *, seconds: bool) -> int | None:
    """A timestamp header as milliseconds; None when it is not a plain positive integer.

    seconds: the platform counts seconds; milliseconds are still recognised by their length.
    """
    if not (header.isascii() and header.isdigit()) or len(header) > _MAX_DIGITS:
        return None
    value = int(header)
    return value * 1000 if seconds and len(header) < _MILLISECOND_DIGITS else value


def is_fresh(timestamp_ms: int | None, *, now: float, window_s: int) -> bool:
    """Whether a timestamp is at most `window_s` away from `now` (Unix seconds), either way."""
    return timestamp_ms is not None and abs(now * 1000 - timestamp_ms) <= window_s * 1000


def _bytes(text: str) -> bytes:
    # A header or a JSON string may hold lone surrogates, which strict UTF-8 can't encode.
    return text.encode("utf-8", "surrogatepass")
