"""A circuit breaker for each model, shared by all workers.

While too many calls of a model fail (or come slowly), nobody calls it. After a while one call, the
probe, finds out whether it is back. Each process asks Redis at most once a second; what went well
is told only when something fails, so a healthy model costs no call more.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

import redis
from redis.exceptions import RedisError

from shared.errors import BreakerOpenError
from shared.state import keys
from shared.state.scripts import script

LOOK_S = 1.0  #: how old the knowledge of a closed breaker may be
PROBE_S = 15.0  #: after this another call may be the probe, too
MAX_ASKED_S = 120.0  #: for longer an endpoint's wish does not keep a breaker open

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """failures, ratio: so many failed calls, and such a share of all, within `window_s` open it.

    failures 0: never. slow_s: a first token later than this counts as a failure (0: never).
    """

    failures: int
    ratio: float
    window_s: float
    open_s: float
    slow_s: float = 0.0


class Breaker:
    """One model's. Thread-safe: at worst two threads ask at once. Without Redis it is closed."""

    def __init__(
        self,
        client: redis.Redis,
        model: str,
        limits: Limits,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = model
        self._limits = limits
        self._clock = clock
        self._key = keys.breaker(model)
        self._permit = client.register_script(script("breaker_permit"))
        self._report = client.register_script(script("breaker_report"))
        self._return = client.register_script(script("breaker_return"))
        self._looked_at = -LOOK_S
        self._open_until = 0.0
        self._ask_again_at = 0.0  # a probe of another process may close it at any time
        self._went_well = 0
        self._counting_since = clock()

    def permit(self) -> str:
        """Whether the model may be called: the probe's id, "" for an ordinary call.

        Raises:
            BreakerOpenError: it may not.
        """
        now = self._clock()
        if not self._limits.failures:
            return ""
        if now < self._ask_again_at:
            raise self._open_error(self._open_until - now)
        return "" if now - self._looked_at < LOOK_S else self._look(now)

    def ended(self, probe: str, *, first_token_s: float | None, asked_s: float = 0.0) -> None:
        """A permitted call is over. first_token_s: None when it failed.

        asked_s: the wait that the endpoint asked for. It doesn't open a breaker, since a limit may
        be met by one call in many; one that opens, or whose probe failed, stays open so long.
        """
        limits = self._limits
        is_slow = first_token_s is not None and 0 < limits.slow_s < first_token_s
        if first_token_s is None or is_slow:
            self._tell(probe, failed=1, asked_s=min(asked_s, MAX_ASKED_S))
        elif probe:
            self._tell(probe, failed=0)
        else:
            self._count_success()

    def give_back(self, probe: str) -> None:
        """A permitted call was not made."""
        if not probe:
            return
        try:
            self._return(keys=[self._key], args=[probe])
        except RedisError as error:  # then another one is let through after PROBE_S
            self._log_blind(error)
        self._ask_again_at = 0.0

    def _look(self, now: float) -> str:
        self._looked_at = now
        probe = secrets.token_urlsafe(9)
        try:
            state, *wait_ms = self._permit(keys=[self._key], args=[probe, int(PROBE_S * 1000)])
        except RedisError as error:
            self._log_blind(error)
            return ""
        if state == "open":
            self._hold_off(wait_ms[0] / 1000)
            raise self._open_error(wait_ms[0] / 1000)
        if state == "probe":
            logger.warning("breaker.probed", extra={"metadata": {"model": self._model}})
            self._hold_off(LOOK_S)
            return probe
        return ""

    def _tell(self, probe: str, *, failed: int, asked_s: float = 0.0) -> None:
        limits = self._limits
        if not limits.failures:
            return
        well, self._went_well = self._went_well, 0
        args = [well + 1 - failed, failed, probe, int(limits.window_s * 1000), limits.failures]
        args += [int(limits.ratio * 1000), int(limits.open_s * 1000), int(asked_s * 1000)]
        try:
            open_ms = int(self._report(keys=[self._key], args=args))
        except RedisError as error:
            self._log_blind(error)
            return
        if open_ms:
            metadata = {"model": self._model, "open_s": open_ms / 1000}
            logger.warning("breaker.open", extra={"metadata": metadata})
            self._hold_off(open_ms / 1000)
        elif probe and not failed:
            logger.warning("breaker.closed", extra={"metadata": {"model": self._model}})
            self._ask_again_at = 0.0

    def _count_success(self) -> None:
        now = self._clock()
        if now - self._counting_since > self._limits.window_s:
            self._went_well, self._counting_since = 0, now
        self._went_well += 1

    def _hold_off(self, wait_s: float) -> None:
        now = self._clock()
        self._open_until = now + wait_s
        self._ask_again_at = now + min(wait_s, LOOK_S)
        self._looked_at = -LOOK_S

    def _open_error(self, wait_s: float) -> BreakerOpenError:
        detail = f"the model {self._model} failed too often and is left alone for a while"
        return BreakerOpenError("model:breaker_open", detail, retry_after_s=max(0.0, wait_s))

    def _log_blind(self, error: RedisError) -> None:
        metadata = {"model": self._model, "error": type(error).__name__}
        logger.warning("breaker.unknown", extra={"metadata": metadata})
