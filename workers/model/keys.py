"""The keys of one model, as its calls need them: usable ones in order, and word of a refusal."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from workers.deadline import Deadline


@dataclass(frozen=True, slots=True)
class ModelKey:
    """What stands behind `Bearer` in a call. `id` names it in logs and marks; it tells nothing."""

    id: str
    bearer: str = field(repr=False)


class KeySource(Protocol):
    """Where a model's keys come from. Thread-safe."""

    def usable(self, deadline: Deadline) -> Sequence[ModelKey]:
        """The keys that may be tried, best first; cheap enough for every call.

        Raises:
            TaskError: there is none, or none could be got in time.
        """

    def refused(self, key: ModelKey) -> None:
        """The endpoint refused this key: others go first from now on."""


class FixedKeys:
    """Keys as they stand in the settings."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._keys = [ModelKey(key_id(secret), secret) for secret in secrets] or [ModelKey("", "")]

    def usable(self, deadline: Deadline) -> Sequence[ModelKey]:
        return self._keys

    def refused(self, key: ModelKey) -> None:
        if key in self._keys[:-1]:
            self._keys = [*(other for other in self._keys if other != key), key]


def key_id(secret: str) -> str:
    """Eight hex digits that tell one secret from another."""
    return hashlib.blake2b(secret.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
