"""What `clawdbot keys` does to one model's keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import click
from redis.exceptions import RedisError

from shared import audit
from shared.config import Settings
from shared.config.known import nearest
from shared.config.models import NamedModel
from shared.errors import TaskError
from shared.state.key_ring import DAY_MS, Entry, KeyRing, RingError
from workers.client import HttpClient
from workers.deadline import Deadline
from workers.keys.order import in_order
from workers.keys.pair import KeyPair
from workers.keys.ring_store import RingStore
from workers.keys.sources import bearers, own_pairs, ring_store
from workers.keys.verify import Verifier
from workers.ops.context import operator

VERIFY_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Desk:
    """One model's keys, and what an operator needs to work on them.

    Every method raises click.ClickException for what can't be done; nothing is changed then.
    """

    name: str
    settings: Settings
    model: NamedModel
    store: RingStore
    verifier: Verifier

    @property
    def needs_id(self) -> bool:
        """Whether a pair without its AccessKey id is of no use."""
        return self.model.auth != "bearer"

    def add(self, pair: KeyPair, *, least_days: int = 0, again: bool = False) -> KeyRing:
        """`pair` becomes the next key, valid for `keys.backup_days`, or for longer.

        again: it may be so already, by a call whose answer was lost.
        """
        sealed, days = self.store.seal(pair), max(self.settings.keys.backup_days, least_days)

        def step(ring: KeyRing, now_ms: int) -> KeyRing:
            if again and ring.next is not None and ring.next.id == pair.id:
                return ring
            return ring.without_past(now_ms).add_next(_entry(pair.id, sealed, now_ms, days))

        changed = self._change(step)
        audit.record("key.added", model=self.name, key=pair.id)
        return changed

    @contextmanager
    def alone(self, lease_s: float) -> Iterator[None]:
        """While the block runs, nobody else has a pair made for this model.

        Raises:
            click.ClickException: somebody does.
        """
        lock = self.store.making(lease_s)
        if not lock.acquire(blocking=False):
            raise click.ClickException(
                f"somebody else has a pair made for {self.name} just now; "
                f"it is done, or given up, within {lease_s:g} s"
            )
        try:
            yield
        finally:
            with suppress(RedisError):  # it ends by itself
                lock.release()

    def check_room(self) -> None:
        """Whether there is no next key yet; to be asked before a pair is made for it."""
        snapshot = self.store.read()
        try:
            snapshot.ring.without_past(snapshot.now_ms).check_room()
        except RingError as error:
            raise click.ClickException(str(error)) from error

    def waiting(self) -> KeyPair | None:
        """The pair of the next key, if there is one whose time is not over."""
        snapshot = self.store.read()
        entry = snapshot.ring.next
        if entry is None or entry.is_over(snapshot.now_ms):
            return None
        pair = self.store.open(entry.sealed)
        if pair is None:
            raise click.ClickException(
                f"the next key {entry.id} is sealed with a master key that is not listed any more: "
                "list it as the last one of CLAWDBOT_MASTER_KEY, or archive the key"
            )
        return pair

    def activate(self, pair: KeyPair, *, must_wait: bool) -> KeyRing:
        """`pair` becomes the active key. must_wait: only if it still is the next one.

        The settings' keys are replaced as the ring's active one is: else they would be accepted
        for ever.
        """
        sealed, lives = self.store.seal(pair), self.settings.keys
        overlap_ms = int(lives.overlap_days * DAY_MS)
        own = {each.id: self.store.seal(each) for each in own_pairs(self.model) if each.secret}

        def step(ring: KeyRing, now_ms: int) -> KeyRing:
            ring = ring.without_past(now_ms)
            entry, waiting = _entry(pair.id, sealed, now_ms, lives.primary_days), ring.next
            if must_wait and (waiting is None or waiting.id != pair.id):
                raise RingError(
                    f"{pair.id} is not the next key any more: somebody changed the ring"
                )
            until_ms = now_ms + overlap_ms
            ring = ring.activate(entry, overlap_ms=overlap_ms, now_ms=now_ms).with_outsiders(
                Entry(key_id, "replaced", its, now_ms, until_ms, until_ms)
                for key_id, its in own.items()
            )
            return ring.without_past(now_ms)

        changed = self._change(step)
        audit.record("key.activated", model=self.name, key=pair.id)
        self.store.forgive(pair.id)
        return changed

    def archive(self, key_id: str) -> KeyRing:
        """Out of use at once, its secret deleted."""

        def step(ring: KeyRing, _: int) -> KeyRing:
            if ring.find(key_id) is None and key_id in {p.id for p in own_pairs(self.model)}:
                raise RingError(f"{key_id} is from the settings: take it out of ak_secret there")
            return ring.archive(key_id)

        changed = self._change(step)
        audit.record("key.archived", model=self.name, key=key_id)
        return changed

    def reseal(self) -> KeyRing:
        """Every pair sealed with the first master key."""

        def seal_anew(sealed: str) -> str:
            pair = self.store.open(sealed)
            if pair is None:
                raise RingError("a pair is sealed with a master key that is not listed: list it")
            return self.store.seal(pair)

        changed = self._change(lambda ring, _: ring.resealed(seal_anew))
        audit.record("keys.resealed", model=self.name, entries=len(changed.live))
        return changed

    def fault_of(self, pair: KeyPair) -> TaskError | None:
        """Why a call of one token with this pair fails; None when it works."""
        try:
            self.verifier.verify(pair)
        except TaskError as error:
            return error
        self.store.forgive(pair.id)
        return None

    def valid(self) -> tuple[KeyPair, ...]:
        """The pairs that calls would use, in their order."""
        snapshot = self.store.read()
        opened = {entry.sealed: self.store.open(entry.sealed) for entry in snapshot.ring.live}
        return in_order(snapshot.ring, opened, own_pairs(self.model), (), snapshot.now_ms)

    def _change(self, step: Callable[[KeyRing, int], KeyRing]) -> KeyRing:
        try:
            return self.store.change(step)
        except RingError as error:
            raise click.ClickException(str(error)) from error


@contextmanager
def desk_of(name: str, *, seals: bool = False) -> Iterator[Desk]:
    """The desk of the model `name`. seals: secrets will be put into Redis.

    Raises:
        click.UsageError: there is no such model, or no master key to seal with.
    """
    with operator() as op:
        models = op.settings.all_models()
        if name not in models:
            like = nearest(name, models)
            cure = f"; the nearest is {like}" if like else ": set CLAWDBOT_ENDPOINT"
            raise click.UsageError(f"there is no model {name}{cure}")
        store = ring_store(op.settings, name, op.client)
        if seals and not store.can_seal:
            raise click.UsageError(
                "without a master key no secret is kept in Redis: set CLAWDBOT_MASTER_KEY or "
                "CLAWDBOT_MASTER_KEY_FILE, here and for every worker (`openssl rand -base64 32`)"
            )
        http = HttpClient(concurrency=2)
        try:
            exchange = bearers(op.settings, name, op.client, http)
            verifier = Verifier(models[name], exchange, http, lambda: Deadline(VERIFY_TIMEOUT_S))
            yield Desk(name, op.settings, models[name], store, verifier)
        finally:
            http.close()


def _entry(key_id: str, sealed: str, now_ms: int, days: int) -> Entry:
    return Entry(key_id, "next", sealed, now_ms, now_ms + days * DAY_MS)
