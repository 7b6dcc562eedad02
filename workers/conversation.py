"""A conversation's memory: what is kept of a turn, and how much of the past.

An entry is one letter for who spoke (`u`, `a`) and the text: half of what JSON takes for a short
one. The JSON of earlier releases is still read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from shared.messages import cap_text, encodable
from workers.model.estimate import MESSAGE_TOKENS, Counter, estimate

ChatMessage = dict[str, str]

_ROLES = {"u": "user", "a": "assistant"}


@dataclass(frozen=True, slots=True)
class Memory:
    """How much is remembered: whole turns, the newest ones, within each of these.

    max_bytes: of entries. max_tokens: as `count` counts them; 0: no limit.
    """

    turns: int
    max_bytes: int
    max_tokens: int = 0
    count: Counter = estimate

    def newest(self, history: Sequence[str]) -> Sequence[str]:
        """The part of `history` that may be shown to the model; what is stored fits by bytes."""
        if not self.max_tokens:
            return history
        return history[len(history) - self._fitting(history, self.turns, 0, 0) :]

    def with_turn(self, history: Sequence[str], text: str, answer: str) -> tuple[list[str], int]:
        """The entries of the new turn, and how many entries to keep in all."""
        if self.turns == 0:
            return [], 0
        half = self.max_bytes // 2
        new = [_entry("u", text, half), _entry("a", answer, half)]
        used_bytes = sum(len(entry.encode()) for entry in new)
        used_tokens = self._tokens(new) if self.max_tokens else 0
        return new, 2 + self._fitting(history, self.turns - 1, used_bytes, used_tokens)

    def _fitting(
        self, history: Sequence[str], turns: int, used_bytes: int, used_tokens: int
    ) -> int:
        """How many of the newest entries fit beside what is used already."""
        keep = 0
        for first in range(len(history) - 2, -1, -2):
            turn = history[first : first + 2]
            used_bytes += sum(len(entry.encode()) for entry in turn)
            used_tokens += self._tokens(turn) if self.max_tokens else 0
            is_too_long = 0 < self.max_tokens < used_tokens or used_bytes > self.max_bytes
            if keep == 2 * turns or is_too_long:
                break
            keep += 2
        return keep

    def _tokens(self, entries: Sequence[str]) -> int:
        return sum(self.count(entry) + MESSAGE_TOKENS for entry in entries)


def read(entry: str) -> ChatMessage:
    """An entry as the model is shown it."""
    if entry.startswith("{"):
        message: ChatMessage = json.loads(entry)
        return message
    return {"role": _ROLES[entry[:1]], "content": entry[1:]}


def _entry(who: str, text: str, limit_bytes: int) -> str:
    return encodable(who + cap_text(text, max(0, limit_bytes - 1)))
