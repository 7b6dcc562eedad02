"""Server-sent events, read incrementally from chunks cut anywhere.

Format: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_EVENT_BYTES = 1024 * 1024

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class SseEvent:
    """data: None for a comment, which is only a sign of life."""

    data: str | None
    name: str = ""


class SseParser:
    """Feed it what comes off the socket. An event without its closing blank line is dropped."""

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_bytes = max_event_bytes
        self._held_bytes = 0
        self._line: list[bytes] = []  # pieces of a line whose end has not come
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
        first, *others = _LINE_END.split(chunk)
        self._hold(first)
        events = []
        for piece in others:
            event = self._take_line(b"".join(self._line))
            if event is not None:
                events.append(event)
            self._line.clear()
            self._hold(piece)
        return events

    def _hold(self, piece: bytes) -> None:
        self._held_bytes += len(piece)
        if self._held_bytes > self._max_bytes:
            raise ValueError(f"an event of the stream is larger than {self._max_bytes} bytes")
        self._line.append(piece)

    def _take_line(self, line: bytes) -> SseEvent | None:
        if self._at_start:
            line = line.removeprefix(_BOM)
            self._at_start = False
        if not line:
            return self._dispatch()
        if line.startswith(b":"):
            self._held_bytes -= len(line)
            return SseEvent(None)
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
        self._held_bytes = 0
        return event
