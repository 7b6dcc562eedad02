"""Server-sent events, read incrementally from chunks cut anywhere.

Format: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_EVENT_BYTES = 1024 * 1024

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


class SseEvent(NamedTuple):
    """data: None for a comment, which is only a sign of life."""

    data: str | None
    name: str = ""


class SseParser:
    """Feed it what comes off the socket. An event without its closing blank line is dropped."""

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_bytes = max_event_bytes
        self._event_bytes = 0  #: of the lines that the event has so far
        self._line: list[bytes] = []  # pieces of a line whose end has not come
        self._line_bytes = 0
        self._data: list[str] = []
        self._name = ""
        self._skips_lf = False  # the last chunk ended with CR: an LF now belongs to it
        self._at_start = True

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """The events and comments completed by `chunk`.

        Raises:
            ValueError: an event is larger than `max_event_bytes`
        """
        if self._skips_lf and chunk.startswith(b"\n"):
            chunk = chunk[1:]
            self._skips_lf = False
        if not chunk:
            return []
        self._skips_lf = chunk.endswith(b"\r")
        lines = _LINE_END.split(chunk)
        unended = lines.pop()
        if lines and self._line:
            lines[0] = self._ended(lines[0])
        events = [event for line in lines if (event := self._take_line(line)) is not None]
        if unended:
            self._hold(unended)
        return events

    def _hold(self, piece: bytes) -> None:
        self._line_bytes += len(piece)
        self._check(self._line_bytes)
        self._line.append(piece)

    def _ended(self, piece: bytes) -> bytes:
        """The held line with its last piece."""
        line = b"".join((*self._line, piece))
        self._line.clear()
        self._line_bytes = 0
        return line

    def _check(self, more_bytes: int) -> None:
        if self._event_bytes + more_bytes > self._max_bytes:
            raise ValueError(f"an event of the stream is larger than {self._max_bytes} bytes")

    def _take_line(self, line: bytes) -> SseEvent | None:
        if self._at_start:
            line = line.removeprefix(_BOM)
            self._at_start = False
        if not line:
            return self._dispatch() if self._event_bytes else None
        self._check(len(line))
        if line.startswith(b":"):
            return SseEvent(None)
        self._event_bytes += len(line)
        field, _, value = line.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._name = value
        return None

    def _dispatch(self) -> SseEvent | None:
        event = SseEvent("\n".join(self._data), self._name) if self._data else None
        self._data.clear()
        self._name = ""
        self._event_bytes = 0
        return event
