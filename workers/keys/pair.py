"""What a model's key is made of: an AccessKey pair, or a secret alone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An AccessKey id (empty where the secret is the whole key) and its secret.

    id: names the pair in the ring, in marks and in logs, and tells nothing of the secret.
    """

    ak_id: str
    secret: str = field(repr=False)
    id: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", fingerprint(self.secret))


def fingerprint(secret: str) -> str:
    """Eight hex digits that tell one secret from another."""
    return hashlib.blake2b(secret.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
