"""The keys of one model, as its calls need them: usable ones in order, and word of a refusal.

`workers/keys` has where they come from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from workers.deadline import Deadline


@dataclass(frozen=True, slots=True)
class ModelKey:
    """What stands behind `Bearer` in a call. `id` names it in logs and marks; it tells nothing.

    version: of the token that an AccessKey pair was exchanged for; empty for any other key.
    """

    id: str
    bearer: str = field(repr=False)
    version: str = ""


class KeySource(Protocol):
    """Where a model's keys come from. Thread-safe."""

    def usable(self, deadline: Deadline) -> Iterator[ModelKey]:
        """The keys that may be tried, best first; cheap enough for every call.

        Whoever asks for another one has told `refused` of the last.

        Raises:
            TaskError: there is none, or none could be got in time.
        """

    def refused(self, key: ModelKey) -> None:
        """The endpoint refused this key: others go first from now on."""
