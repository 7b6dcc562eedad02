"""How many calls run at once, over all workers: slots in Redis, leased.

A worker that dies gives its slots back by not renewing them. Who finds none free waits a little,
then gives the message back, which counts as no attempt.
"""

from __future__ import annotations

import logging
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import redis
from redis.exceptions import RedisError

from shared.errors import BusyError
from shared.state import keys
from shared.state.scripts import script

LEASE_MS = 15_000
RENEW_INTERVAL_S = 5.0
FIRST_WAIT_S, MAX_WAIT_S = 0.02, 0.25  #: between two looks; doubled each time
RETRY_AFTER_S = 1.0

logger = logging.getLogger(__name__)


class Slots:
    """The slots of all accounts. Thread-safe; make one per process, after the fork.

    limits: by account, 0 for no limit. in_all: for all together, 0 for no limit. account_of: a
    model's account, whose slots it takes; one that isn't there has an account of its own name.
    """

    def __init__(
        self,
        client: redis.Redis,
        limits: Mapping[str, int],
        in_all: int,
        *,
        account_of: Mapping[str, str] | None = None,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._client = client
        self._limits = limits
        self._in_all = in_all
        self._account_of = account_of or {}
        self._rng = rng
        self._take = client.register_script(script("slot_take"))
        self._renew = client.register_script(script("slot_renew"))
        self._held: dict[str, list[str]] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def taken(self, model: str, wait_s: float) -> Iterator[None]:
        """Hold a slot while the block runs; wait for one for at most `wait_s`.

        Raises:
            BusyError: none was free.
        """
        limits = self._limits_of(model)
        if not limits:
            yield
            return
        holder = self._wait_for(model, limits, wait_s)
        try:
            yield
        finally:
            self._give_back(holder)

    def renew_all(self) -> None:
        """Keep what this process holds."""
        with self._lock:
            held = [(name, holder) for holder, names in self._held.items() for name in names]
        if held:
            names, holders = zip(*held, strict=True)
            self._renew(keys=names, args=[LEASE_MS, *holders])

    def _limits_of(self, model: str) -> dict[str, int]:
        account = self._account_of.get(model, model)
        both = {keys.slots(account): self._limits.get(account, 0), keys.SLOTS: self._in_all}
        return {name: limit for name, limit in both.items() if limit}

    def _wait_for(self, model: str, limits: dict[str, int], wait_s: float) -> str:
        holder = secrets.token_urlsafe(9)
        end, pause_s = time.monotonic() + wait_s, FIRST_WAIT_S
        while not self._take_now(holder, limits):
            if time.monotonic() + pause_s > end:
                raise BusyError(
                    "model:busy",
                    f"all slots of the model {model} are taken",
                    retry_after_s=RETRY_AFTER_S,
                )
            time.sleep(pause_s * (0.5 + self._rng()))
            pause_s = min(2 * pause_s, MAX_WAIT_S)
        return holder

    def _take_now(self, holder: str, limits: dict[str, int]) -> bool:
        with self._lock:
            self._held[holder] = list(limits)
            self._start()
        try:
            is_taken = bool(
                self._take(keys=list(limits), args=[holder, LEASE_MS, *limits.values()])
            )
        except RedisError as error:  # nothing new is claimed of a Redis that is away: no storm
            logger.warning("slots.unknown", extra={"metadata": {"error": type(error).__name__}})
            is_taken = True
        except BaseException:  # Celery's limit: a slot that nobody gives back must not be renewed
            self._forget(holder)
            raise
        if not is_taken:
            self._forget(holder)
        return is_taken

    def _forget(self, holder: str) -> list[str]:
        with self._lock:
            return self._held.pop(holder, [])

    def _give_back(self, holder: str) -> None:
        names = self._forget(holder)
        try:
            with self._client.pipeline(transaction=False) as pipe:
                for name in names:
                    pipe.zrem(name, holder)
                pipe.execute()
        except RedisError as error:  # the lease ends by itself
            logger.warning("slots.unknown", extra={"metadata": {"error": type(error).__name__}})

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="slots", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            time.sleep(RENEW_INTERVAL_S)
            try:
                self.renew_all()
            except RedisError as error:
                logger.warning("slots.unknown", extra={"metadata": {"error": repr(error)}})
