"""The frame around every attempt: claim held, errors given their fate, nothing swallowed."""

from __future__ import annotations

import logging
import random
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from celery.exceptions import SoftTimeLimitExceeded
from redis.exceptions import DataError, RedisError

from shared.errors import BusyError, ClaimLostError, OutcomeUnknownError, PermanentError, TaskError
from shared.logs import bind_trace
from shared.messages import Reply
from workers.claim import Claim, GoOn
from workers.claim_keeper import RENEW_INTERVAL_S, ClaimKeeper
from workers.metrics import Metrics
from workers.outcomes import Attempt
from workers.retry import Dead, Policy, Retry, decide, describe
from workers.store import Lanes

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stage:
    """What `process` and `push` have in common.

    limit_s: the longest an attempt may take; its claim is renewed no longer than that.
    work: does the attempt and records its success; returns the claim to go on with, if its second
        argument asks for one and there is work.
    may_go_on: whether a task of this age in seconds may take a further head.
    history_entries: how much history a claim should bring along.
    notice: what to tell the person when the head finally fails, by the error of its last attempt.
    """

    name: str
    lanes: Lanes
    keeper: ClaimKeeper
    policy: Policy
    limit_s: float
    work: Callable[[Claim, Callable[[], GoOn]], Claim | None]
    notice: Callable[[Claim, Exception], Reply | None]
    metrics: Metrics
    may_go_on: Callable[[float], bool] = lambda _: False
    history_entries: int = 0

    def run(self, lane: str, seq: int) -> None:
        """Work on the lane's head, if it is free and due.

        Then, while this task is young, on the heads that the oldest waiting hints speak of: a hint
        costs Celery more than its message costs us.
        """
        task_started = time.monotonic()
        claim = self._claim(lane, seq)
        while claim is not None:
            claim = self._work_on(claim, lambda: self._go_on(task_started))

    def _claim(self, lane: str, seq: int) -> Claim | None:
        try:
            return self.lanes.claim(lane, seq, history_entries=self.history_entries)
        except (RedisError, SoftTimeLimitExceeded) as error:
            # The hint is lost with it; the sweeper gives another.
            logger.error("claim.failed", extra={"metadata": {"error": repr(error)}})
            return None

    def _go_on(self, task_started: float) -> GoOn:
        wanted = self.may_go_on(time.monotonic() - task_started)
        return GoOn(wanted=wanted, history_entries=self.history_entries)

    def _work_on(self, claim: Claim, go_on: Callable[[], GoOn]) -> Claim | None:
        started = time.monotonic()
        following = None
        with bind_trace(claim.event_id), self.keeper.holding(claim, self.limit_s):
            try:
                outcome, following = self._attempt(claim, go_on, started)
            except ClaimLostError:
                outcome = Attempt.LOST
                logger.warning("claim.lost", extra={"metadata": {"stage": self.name}})
            except RedisError as error:
                # The lease ends by itself and the sweeper brings the lane back.
                outcome = Attempt.UNSETTLED
                metadata = {"stage": self.name, "error": repr(error)}
                logger.error("claim.unsettled", extra={"metadata": metadata})
        self.metrics.attempted(self.name, claim, outcome, time.monotonic() - started)
        return following

    def _attempt(
        self, claim: Claim, go_on: Callable[[], GoOn], started: float
    ) -> tuple[Attempt, Claim | None]:
        try:
            # Redis told of it late, or this process stood still since: it may be somebody else's.
            if claim.waited_s > RENEW_INTERVAL_S and not self.lanes.renew([claim])[0]:
                raise ClaimLostError("the claim ended before the work on it began")
            if claim.is_poison:
                raise PermanentError("poison", "its process died each time it was worked on")
            return Attempt.OK, self.work(claim, go_on)
        except DataError as error:  # a value that can't be sent is our bug, and no outage
            return self._fail(claim, error, started), None
        except (ClaimLostError, RedisError):
            raise
        except SoftTimeLimitExceeded:
            unknown = OutcomeUnknownError("celery:soft_time_limit")
            return self._fail(claim, unknown, started), None
        except Exception as error:
            return self._fail(claim, error, started), None

    def _fail(self, claim: Claim, error: Exception, started: float) -> Attempt:
        now = claim.now_ms / 1000 + time.monotonic() - started
        fate = self._fate(claim, error, now)
        if not isinstance(error, BusyError):  # under load that is every second message
            self._log(claim, error, fate)
        unsure = isinstance(error, OutcomeUnknownError)
        if isinstance(fate, Retry):
            self.lanes.retry(
                claim,
                fate.at - now,
                describe(error),
                unsure=unsure,
                is_attempt=not isinstance(error, BusyError),
            )
            return Attempt.BUSY if isinstance(error, BusyError) else Attempt.RETRY
        notice = self._notice_or_none(claim, error)
        self.lanes.bury(claim, fate.reason, notice, unsure=unsure)
        return Attempt.DEAD

    def _fate(self, claim: Claim, error: Exception, now: float) -> Retry | Dead:
        if claim.is_working_notice:
            return Dead(describe(error))  # tried once: the reply behind it must not wait for it
        return decide(
            error,
            claim.attempt,
            now,
            since=claim.since_ms / 1000,
            entered=claim.entered_ms / 1000,
            policy=self.policy,
            rng=random.random,
        )

    def _notice_or_none(self, claim: Claim, error: Exception) -> Reply | None:
        if claim.is_notice:
            return None
        try:
            return self.notice(claim, error)
        except Exception as fault:  # its bot is gone, its address or its record can't be read
            logger.warning("notice.impossible", extra={"metadata": {"error": describe(fault)}})
            return None

    def _log(self, claim: Claim, error: Exception, fate: Retry | Dead) -> None:
        is_dead = isinstance(fate, Dead)
        metadata = {
            "stage": self.name,
            "attempt": claim.attempt,
            "error": describe(error),
            "fate": "dead" if is_dead else "retry",
        }
        if not isinstance(error, TaskError):  # our bug: say where, without the error's own text
            metadata["stack"] = "".join(traceback.format_tb(error.__traceback__))
        is_lost = is_dead and not claim.is_notice
        level = logging.ERROR if is_lost else logging.WARNING
        logger.log(level, "attempt.failed", extra={"metadata": metadata})
