"""A model's key ring in Redis: read in one call, changed in one step, pairs sealed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import redis
from redis.lock import Lock

from shared.errors import PermanentError, StateUnavailableError
from shared.messages import dump_json
from shared.state.key_ring import KeyRing
from shared.state.keys import RingKeys
from shared.state.scripts import script
from shared.vault import Vault
from workers.keys.pair import KeyPair

REFUSED_MS = 300_000  #: how long a refused key goes last; keys.py names it, too
MAX_CHANGES = 100  #: of others in between, before a change is given up


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The ring at one moment. refused: ids of keys that were refused of late."""

    text: str = field(repr=False)
    refused: frozenset[str]
    now_ms: int

    @property
    def ring(self) -> KeyRing:
        return KeyRing.from_json(self.text)


class RingStore:
    """One model's ring. Thread-safe. master_keys: newest first; without any, no pair opens."""

    def __init__(self, client: redis.Redis, model: str, master_keys: Sequence[str]) -> None:
        self.keys = RingKeys(model)
        self._client = client
        self._vault = Vault.for_model(master_keys, (), self.keys.ring) if master_keys else None
        self._read = client.register_script(script("ring_read"))
        self._save = client.register_script(script("ring_save"))
        self._refuse = client.register_script(script("ring_refuse"))

    @property
    def can_seal(self) -> bool:
        return self._vault is not None

    def read(self) -> Snapshot:
        """The ring, and Redis's time."""
        text, refused, now_ms = self._read(keys=[self.keys.ring, self.keys.refused])
        return Snapshot(text, frozenset(refused), now_ms)

    def change(self, step: Callable[[KeyRing, int], KeyRing]) -> KeyRing:
        """Save what `step` makes of the ring (and of now, in ms); again if it changed meanwhile.

        Raises:
            StateUnavailableError: others changed it all the time.
            What `step` raises: nothing is changed then.
        """
        for _ in range(MAX_CHANGES):
            before = self.read()
            ring = before.ring
            after = step(ring, before.now_ms)
            if after == ring or self._save(
                keys=[self.keys.ring], args=[before.text, after.to_json()]
            ):
                return after
        raise StateUnavailableError("others keep changing this key ring: try again")

    def refuse(self, key_id: str) -> None:
        """All workers try this key last, for `REFUSED_MS`."""
        self._refuse(keys=[self.keys.refused], args=[key_id, REFUSED_MS])

    def forgive(self, key_id: str) -> None:
        """The key has worked: take back what `refuse` noted."""
        self._client.zrem(self.keys.refused, key_id)

    def making(self, lease_s: float) -> Lock:
        """Held, for `lease_s` at most, by the only one who has a pair made for this ring."""
        return self._client.lock(self.keys.making, timeout=lease_s)

    def seal(self, pair: KeyPair) -> str:
        """Raises: ValueError, without a master key."""
        if self._vault is None:
            raise ValueError("no master key")
        return self._vault.seal(dump_json([pair.ak_id, pair.secret]))

    def open(self, sealed: str) -> KeyPair | None:
        """The pair; None when no master key of ours opens it."""
        if self._vault is None:
            return None
        try:
            ak_id, secret = json.loads(self._vault.open(sealed))
        except PermanentError:
            return None
        return KeyPair(ak_id, secret)
