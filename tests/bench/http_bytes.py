"""The little of HTTP that the load and the upstream have to read."""

from __future__ import annotations

END_OF_HEAD = b"\r\n\r\n"
_LENGTH = b"\r\ncontent-length:"


def content_length(head: bytes) -> int:
    """The length that a request's or answer's head announces; 0 when it announces none."""
    lower = head.lower()
    start = lower.find(_LENGTH)
    return int(lower[start + len(_LENGTH) :].split(b"\r\n", 1)[0]) if start >= 0 else 0
