"""Keeps the claims of this process alive: one batched renewal every few seconds."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import RedisError

from workers.claim import Claim
from workers.store import Lanes

RENEW_INTERVAL_S = 5.0  #: a third of the lease: two renewals may fail

logger = logging.getLogger(__name__)


class ClaimKeeper:
    """Renews what is held, and nothing longer than its own time limit.

    A claim that is not renewed any more ends by itself, so a hung task can't hold a lane for ever.
    Made once per process, after the fork; the thread starts with the first claim.
    """

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._held: dict[str, tuple[Claim, float]] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def holding(self, claim: Claim, limit_s: float) -> Iterator[None]:
        """Renew `claim` while the block runs, for at most `limit_s` seconds."""
        with self._lock:
            self._start()
            self._held[claim.id] = (claim, time.monotonic() + limit_s)
        try:
            yield
        finally:
            with self._lock:
                self._held.pop(claim.id, None)

    def _start(self) -> None:
        if self._thread is None:  # `is_alive` is dear under gevent
            thread = threading.Thread(target=self._run, name="claims", daemon=True)
            thread.start()
            self._thread = thread

    def _run(self) -> None:
        try:
            while True:
                time.sleep(RENEW_INTERVAL_S)
                self._renew_or_log()
        finally:
            self._thread = None  # the next claim starts another

    def _renew_or_log(self) -> None:
        try:
            self.renew_all(time.monotonic())
        except RedisError as error:
            logger.warning("claims.renewal_failed", extra={"metadata": {"error": repr(error)}})
        except Exception:  # without the thread every claim of the process would be lost
            logger.exception("claims.renewal_bug")

    def renew_all(self, now: float) -> None:
        """One renewal of everything held whose limit is not reached at `now` (monotonic)."""
        with self._lock:
            due = [claim for claim, limit in self._held.values() if limit > now]
        if due:
            self._lanes.renew(due)  # whose claim is gone learns it when it wants to settle
