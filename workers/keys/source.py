"""A model's keys for its calls: those of the ring and of the settings, in the order of trying."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from redis.exceptions import RedisError

from shared.errors import KeyRefusedError, PermanentError, TaskError, TransientError
from workers.deadline import Deadline
from workers.keys.bearers import Bearers
from workers.keys.order import in_order
from workers.keys.pair import KeyPair
from workers.keys.ring_store import RingStore, Snapshot
from workers.model.keys import ModelKey

FRESH_S = 2.0  #: how long a process goes on with what it read: how soon it sees a change
#: For this long a process tries a pair last whose exchange failed. A cloud that hangs takes a
#: call's whole time: the call's next attempt shall begin with another pair.
PUT_OFF_S = 30.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Known:
    """What was read: pairs in the order of trying, in which epoch, until when it is fresh."""

    pairs: tuple[KeyPair, ...]
    epoch: object
    fresh_until: float


class RingKeySource:
    """See `KeySource`. own: the pairs of the settings, the current one first.

    A call reads memory; Redis is asked by one call in `FRESH_S`, and after a refusal.
    """

    def __init__(
        self,
        model: str,
        store: RingStore,
        bearers: Bearers,
        own: Sequence[KeyPair],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = model
        self._store = store
        self._bearers = bearers
        self._own = tuple(own)
        self._clock = clock
        self._epoch = object()  #: another one after each refusal: what was read before is old
        self._known: Known | None = None
        self._opened: dict[str, KeyPair | None] = {}
        self._put_off: dict[str, float] = {}  #: pairs by id, until when
        self._loading = threading.Lock()

    def usable(self, deadline: Deadline) -> Iterator[ModelKey]:
        """See `KeySource.usable`. A pair is exchanged for its key when its turn comes.

        A pair whose exchange fails does not stop the search: another one's key may be known. In
        the end the error is raised that may be gone soonest. Only a refusal speaks against the
        pair; any other error may be one of the exchange's settings.
        """
        tried: set[str] = set()
        final: PermanentError | None = None
        failures: list[TransientError] = []
        while (pair := self._next(tried)) is not None:
            tried.add(pair.id)
            try:
                yield from self._bearers_of(pair, deadline)
            except KeyRefusedError as error:
                final = error
                self._log_pair("key.refused", pair, error)
                self._mark(pair.id)
            except PermanentError as error:
                final = error
                self._unavailable(pair, error)
            except TransientError as error:
                failures.append(error)
                self._unavailable(pair, error)
                if deadline.expired:
                    raise  # no call could be made with another
        if failures:
            raise min(failures, key=lambda error: error.retry_after_s)
        if final is not None:
            raise final

    def refused(self, key: ModelKey) -> None:
        """See `KeySource.refused`. A key got by exchange is first got anew, unless it is young."""
        try:
            if key.version and self._bearers.drop(key):
                return
        except RedisError as error:
            self._log_outage(error)
        self._mark(key.id)

    def _next(self, tried: set[str]) -> KeyPair | None:
        """The best pair that was not tried. After a refusal it may have come just now."""
        pairs = self._current(waits=bool(tried))
        untried = [pair for pair in pairs if pair.id not in tried]
        return min(untried, key=lambda pair: self._is_put_off(pair.id), default=None)

    def _is_put_off(self, key_id: str) -> bool:
        until = self._put_off.get(key_id)
        return until is not None and self._clock() < until

    def _bearers_of(self, pair: KeyPair, deadline: Deadline) -> Iterator[ModelKey]:
        first = self._bearers.of(pair, deadline)
        yield first
        if first.version:  # it was refused, and perhaps dropped
            second = self._bearers.of(pair, deadline)
            if second.version != first.version:
                yield second

    def _current(self, *, waits: bool) -> tuple[KeyPair, ...]:
        known = self._known
        if known is not None and self._is_fresh(known):
            return known.pairs
        if known is not None and not waits and self._loading.locked():
            return known.pairs  # another call is reading: no reason to wait for it
        with self._loading:
            known = self._known
            if known is None or not self._is_fresh(known):
                self._known = known = self._read(known)
            return known.pairs

    def _is_fresh(self, known: Known) -> bool:
        return known.epoch is self._epoch and self._clock() < known.fresh_until

    def _read(self, known: Known | None) -> Known:
        """Raises: RedisError, when nothing is known."""
        epoch, until = self._epoch, self._clock() + FRESH_S
        try:
            return Known(self._ordered(self._store.read()), epoch, until)
        except RedisError as error:
            if known is None:
                raise
            self._log_outage(error)
            return Known(known.pairs, epoch, until)

    def _ordered(self, snapshot: Snapshot) -> tuple[KeyPair, ...]:
        ring = snapshot.ring
        known, self._opened = self._opened, {}
        for entry in ring.live:
            if entry.sealed in known:
                self._opened[entry.sealed] = known[entry.sealed]
                continue
            self._opened[entry.sealed] = self._store.open(entry.sealed)
            if self._opened[entry.sealed] is None:
                metadata = {"model": self._model, "key": entry.id, "cure": "CLAWDBOT_MASTER_KEY"}
                logger.error("key.unreadable", extra={"metadata": metadata})
        return in_order(ring, self._opened, self._own, snapshot.refused, snapshot.now_ms)

    def _mark(self, key_id: str) -> None:
        try:
            self._store.refuse(key_id)
        except RedisError as error:
            self._log_outage(error)
        self._epoch = object()

    def _unavailable(self, pair: KeyPair, error: TaskError) -> None:
        self._log_pair("key.unavailable", pair, error)
        self._put_off[pair.id] = self._clock() + PUT_OFF_S

    def _log_pair(self, event: str, pair: KeyPair, error: TaskError) -> None:
        metadata = {"model": self._model, "key": pair.id, "code": error.code}
        logger.warning(event, extra={"metadata": metadata})

    def _log_outage(self, error: RedisError) -> None:
        metadata = {"model": self._model, "error": type(error).__name__}
        logger.warning("keys.unread", extra={"metadata": metadata})
