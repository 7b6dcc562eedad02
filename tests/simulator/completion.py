"""One answer of a large model as it goes over the wire: streamed or whole, tidy or ragged."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"

_TOOL_CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "look_up", "arguments": "{}"},
}
_RAGGED_BYTES = 7  #: a chunk of a ragged stream: most characters of three bytes are cut in two


@dataclass(frozen=True, slots=True)
class Completion:
    """`text` in `pieces` pieces. created: Unix seconds.

    finish_reason: as OpenAI says it; empty: none is told. With `tool_calls` comes a call of a tool.
    thought: what a reasoning model thinks before it speaks.
    """

    model: str
    created: int
    text: str
    pieces: int = 16
    finish_reason: str = "stop"
    thought: str = ""

    def events(self, *, wants_usage: bool) -> Iterator[bytes]:
        """Server-sent events: the thought, the pieces of text, then the end as OpenAI sends it."""
        head = self._head("chat.completion.chunk")
        if self.thought:
            yield _choice(head, {"content": None, "reasoning_content": self.thought})
        # Only the piece differs: the frame around it is written once, which halves the cost.
        before, after = _choice(head, {"content": None}).rsplit(b"null", 1)
        for piece in self.text_pieces():
            yield before + json.dumps(piece, ensure_ascii=False).encode() + after
        if self.finish_reason == "tool_calls":
            yield _choice(head, {"tool_calls": [{"index": 0, **_TOOL_CALL}]})
        if self.finish_reason:
            yield _choice(head, {}, finish_reason=self.finish_reason)
        if wants_usage:
            yield as_event({**head, "choices": [], "usage": _usage(self.text)})
        yield DONE

    def text_pieces(self) -> Iterator[str]:
        size = max(1, -(-len(self.text) // max(1, self.pieces)))
        return (self.text[start : start + size] for start in range(0, len(self.text), size))

    def whole(self) -> dict[str, Any]:
        """The same in one body."""
        message: dict[str, Any] = {"role": "assistant", "content": self.text or None}
        if self.thought:
            message["reasoning_content"] = self.thought
        if self.finish_reason == "tool_calls":
            message["tool_calls"] = [_TOOL_CALL]
        choice = {"index": 0, "message": message, "finish_reason": self.finish_reason}
        return {
            **self._head("chat.completion"),
            "choices": [choice],
            "usage": _usage(self.text),
        }

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": "chatcmpl-" + secrets.token_hex(8),
            "object": kind,
            "created": self.created,
            "model": self.model,
        }


def as_event(value: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def ragged(events: list[bytes]) -> Iterator[bytes]:
    """The same events as the format allows them, too: CRLF, comments, data in several lines, with
    and without a space, cut into chunks anywhere, also inside a character."""
    stream = b"".join(KEEP_ALIVE + _in_lines(each) for each in events).replace(b"\n", b"\r\n")
    return _in_chunks(stream)


def ragged_body(value: dict[str, Any]) -> Iterator[bytes]:
    """The same JSON as it may be written, too: in lines that end in CRLF, cut anywhere."""
    text = json.dumps(value, ensure_ascii=False, indent=1).replace("\n", "\r\n")
    return _in_chunks(text.encode())


def _in_chunks(stream: bytes) -> Iterator[bytes]:
    return (stream[at : at + _RAGGED_BYTES] for at in range(0, len(stream), _RAGGED_BYTES))


def _in_lines(one: bytes) -> bytes:
    if one == DONE:
        return one
    value = json.loads(one.removeprefix(b"data: "))
    lines = json.dumps(value, ensure_ascii=False, indent=1).splitlines()
    return "".join(f"data:{line}\n" for line in lines).encode() + b"\n"


def _choice(head: dict[str, Any], delta: dict[str, Any], *, finish_reason: str = "") -> bytes:
    choice = {"index": 0, **({"finish_reason": finish_reason} if finish_reason else {})}
    return as_event({**head, "choices": [{**choice, "delta": delta}]})


def _usage(text: str) -> dict[str, int]:
    return {"prompt_tokens": 0, "completion_tokens": len(text), "total_tokens": len(text)}
