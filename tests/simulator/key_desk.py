"""Which keys the model accepts: plain ones, and those given for AccessKey pairs."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Derived:
    """A key given for a pair. models: the only ones it is good for; none: all."""

    key_id: str
    ends: float
    models: frozenset[str]


class KeyDesk:
    """Keys and pairs come and go while the model runs. clock: Unix seconds.

    lifetime_s: how long a key given for a pair lives, when less than was asked for.
    """

    def __init__(self, key: str, clock: Callable[[], float]) -> None:
        self.keys = {key} if key else set()
        self.pairs: dict[str, str] = {}
        self.lifetime_s = 3600.0
        self.exchanges = 0
        self._derived: dict[str, Derived] = {}
        self._clock = clock

    def accepts(self, bearer: str, model: str) -> bool:
        """Whether `bearer` may ask `model` now."""
        if bearer in self.keys:
            return True
        derived = self._derived.get(bearer)
        if derived is None or derived.ends <= self._clock() or derived.key_id not in self.pairs:
            return False
        return not derived.models or model in derived.models

    def derive(self, key_id: str, wanted_s: float, models: Iterable[str] = ()) -> tuple[str, float]:
        """A new key for the pair, and when it ends."""
        self.exchanges += 1
        key = f"bce-v3/derived-{secrets.token_hex(12)}"
        ends = self._clock() + min(wanted_s, self.lifetime_s)
        self._derived[key] = Derived(key_id, ends, frozenset(models))
        return key, ends

    def expire(self) -> None:
        """Every key given for a pair so far is refused from now on."""
        self._derived.clear()


def key_name(bearer: str) -> str:
    """Names a key in the ledger without telling it."""
    return hashlib.sha256(bearer.encode()).hexdigest()[:8]
