"""A conversation's memory: what the model is shown, and what is kept for the next message."""

from __future__ import annotations

import json
from collections.abc import Sequence

from shared.messages import cap_text, dump_json

ChatMessage = dict[str, str]


def prompt(system: str, history: Sequence[str], text: str) -> list[ChatMessage]:
    """The messages for the model: system prompt, earlier turns, then what the person wrote."""
    messages = [{"role": "system", "content": system}] if system else []
    messages.extend(json.loads(entry) for entry in history)
    messages.append({"role": "user", "content": text})
    return messages


def remember(
    history: Sequence[str], text: str, answer: str, *, turns: int, max_bytes: int
) -> tuple[list[str], int]:
    """The entries of the new turn, and how many entries to keep in all.

    At most `turns` turns and `max_bytes` bytes of JSON stay, whole turns, the newest ones.
    """
    if turns == 0:
        return [], 0
    half = max_bytes // 2
    new = [_entry("user", text, half), _entry("assistant", answer, half)]
    keep, size = 2, sum(len(entry.encode()) for entry in new)
    for first, second in reversed(list(zip(history[::2], history[1::2], strict=False))):
        size += len(first.encode()) + len(second.encode())
        if keep == 2 * turns or size > max_bytes:
            break
        keep += 2
    return new, keep


def _entry(role: str, content: str, limit_bytes: int) -> str:
    return dump_json({"role": role, "content": cap_text(content, limit_bytes)})
