"""The frame around every attempt: which error ends how. On Redis: `integration/test_stages.py`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import DataError

from shared.errors import (
    BusyError,
    ClaimLostError,
    OutcomeUnknownError,
    PermanentError,
    RateLimitedError,
    RouteExpiredError,
    TransientError,
)
from shared.messages import Reply
from tests.clock import Clock
from workers.claim import Claim, GoOn, Wish, claim_of
from workers.claim_keeper import ClaimKeeper
from workers.metrics import Metrics
from workers.outcomes import Attempt
from workers.retry import Policy
from workers.stage import Stage
from workers.store import Lanes

NOTICE = Reply(("sorry",), kind="notice")
LANE = "feishu:cli_test:conv:c1:inbox"


@dataclass
class Recorder:
    """Stands where `Lanes` does and writes down what it is told. `fails`: raised instead."""

    given: Claim | None
    told: list[tuple[Any, ...]] = field(default_factory=list)
    fails: Exception | None = None
    is_held: bool = True
    renewals: int = 0

    def claim(self, lane: str, seq: int, *, history_entries: int = 0) -> Claim | None:
        assert (lane, seq) == (LANE, 7)
        if self.given is None and self.fails:
            raise self.fails
        return self.given

    def retry(
        self,
        claim: Claim,
        wait_s: float,
        why: str,
        *,
        unsure: bool = False,
        is_attempt: bool = True,
    ) -> None:
        if is_attempt:
            self._record("retry", round(wait_s), why, unsure)
        else:
            self._record("postpone", round(wait_s), why)

    def bury(self, claim: Claim, why: str, notice: Reply | None, *, unsure: bool = False) -> None:
        self._record("bury", why, notice, *(["unsure"] if unsure else []))

    def renew(self, claims: Sequence[Claim]) -> list[bool]:
        self.renewals += 1
        return [self.is_held for _ in claims]

    def _record(self, *what: Any) -> None:
        if self.fails:
            raise self.fails
        self.told.append(what)


def a_claim(**changes: Any) -> Claim:
    values: dict[str, Any] = {
        "id": "claim-1",
        "lane": LANE,
        "head": "trace-1",
        "attempt": 1,
        "since_ms": 1_000_000,
        "now_ms": 1_000_000,
        "unsure_ms": None,
        "is_poison": False,
        "asked_at": time.monotonic(),
        "record": {},
        "history": (),
        **changes,
    }
    return Claim(**values)


def run(
    recorder: Recorder,
    work: Callable[[Claim], Claim | None],
    notice: Callable[[Claim, Exception], Reply | None] = lambda *_: NOTICE,
    metrics: Metrics | None = None,
) -> None:
    lanes = cast(Lanes, recorder)
    Stage(
        name="process",
        lanes=lanes,
        keeper=ClaimKeeper(lanes),
        metrics=metrics or Metrics(),
        policy=Policy(limit_s=600, base_s=0.001, cap_s=0.001),
        limit_s=5,
        work=lambda claim, _: work(claim),
        notice=notice,
    ).run(LANE, 7)


def failing(error: BaseException) -> Callable[[Claim], None]:
    def work(_: Claim) -> None:
        raise error

    return work


def fate_of(error: BaseException, **changes: Any) -> tuple[Any, ...]:
    recorder = Recorder(a_claim(**changes))
    run(recorder, failing(error))
    (told,) = recorder.told
    return told


@pytest.mark.parametrize(("age_s", "heads"), [(0.0, 2), (9.0, 1)])
def test_task_takes_a_further_head_only_while_it_may(age_s: float, heads: int) -> None:
    worked_on: list[str] = []

    def work(claim: Claim, go_on: Callable[[], GoOn]) -> Claim | None:
        worked_on.append(claim.id)
        return a_claim(id="claim-2") if go_on().wanted and len(worked_on) == 1 else None

    lanes = cast(Lanes, Recorder(a_claim()))
    Stage(
        name="process",
        lanes=lanes,
        keeper=ClaimKeeper(lanes),
        metrics=Metrics(),
        policy=Policy(limit_s=600, base_s=0.001, cap_s=0.001),
        limit_s=5,
        work=work,
        notice=lambda *_: None,
        may_go_on=lambda task_age_s: task_age_s + age_s < 5,
    ).run(LANE, 7)

    assert len(worked_on) == heads


def test_work_that_succeeds_is_left_to_its_own_record() -> None:
    recorder, seen = Recorder(a_claim()), []

    run(recorder, seen.append)

    assert seen == [recorder.given]
    assert recorder.told == []


def test_a_lane_without_anything_to_do_is_left_alone() -> None:
    run(Recorder(None), failing(AssertionError("nothing was claimed")))


@pytest.mark.parametrize("error", [RedisConnectionError("cut"), SoftTimeLimitExceeded()])
def test_a_claim_that_nobody_answers_ends_the_task(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    run(Recorder(None, fails=error), failing(AssertionError("nothing was claimed")))

    assert caplog.messages == ["claim.failed"]


@pytest.mark.parametrize(("waited_s", "renewals"), [(0.1, 0), (6.0, 1)])
def test_a_claim_told_of_late_is_renewed_first(waited_s: float, renewals: int) -> None:
    recorder, seen = Recorder(a_claim(asked_at=time.monotonic() - waited_s)), []

    run(recorder, seen.append)

    assert (len(seen), recorder.renewals) == (1, renewals)


def test_a_claim_told_of_after_its_end_is_not_worked_on() -> None:
    recorder = Recorder(a_claim(asked_at=time.monotonic() - 6), is_held=False)

    run(recorder, failing(AssertionError("it was run")))

    assert recorder.told == []


class Freezing(Metrics):
    """The process stands still for `for_s` after each attempt, before anything else happens."""

    def __init__(self, clock: Clock, for_s: float) -> None:
        super().__init__()
        self._clock, self._for_s = clock, for_s

    def attempted(self, *args: Any) -> None:
        super().attempted(*args)
        self._clock.now += self._for_s


@pytest.mark.parametrize(("for_s", "renewals", "worked_on"), [(0.1, 0, 2), (16.0, 1, 1)])
def test_a_claim_that_came_with_another_ones_end_ages_until_it_is_worked_on(
    monkeypatch: pytest.MonkeyPatch, for_s: float, renewals: int, worked_on: int
) -> None:
    clock = Clock()
    monkeypatch.setattr("workers.claim.time", SimpleNamespace(monotonic=clock))
    wish = Wish.of(GoOn(wanted=True))
    told = ["claimed", LANE, "trace-2", 1, "1000000", "", 0, "1000000", [], []]
    following = [claim_of(wish, told)]
    recorder, seen = Recorder(a_claim(asked_at=clock.now), is_held=False), []

    def work(claim: Claim) -> Claim | None:
        seen.append(claim)
        return following.pop() if following else None

    run(recorder, work, metrics=Freezing(clock, for_s))

    assert (recorder.renewals, len(seen)) == (renewals, worked_on)
    assert recorder.told == []


def test_a_transient_error_is_a_retry() -> None:
    assert fate_of(TransientError("model:503", "busy")) == ("retry", 0, "model:503: busy", False)


def test_our_own_limit_is_no_attempt() -> None:
    kind, wait_s, why = fate_of(BusyError("model:busy", retry_after_s=100))

    assert (kind, why) == ("postpone", "model:busy")
    assert 50 <= wait_s <= 150


def test_a_retry_comes_no_sooner_than_asked() -> None:
    assert fate_of(RateLimitedError("model:429", retry_after_s=30))[1] == 30


@pytest.mark.parametrize(
    "error", [OutcomeUnknownError("feishu:504"), SoftTimeLimitExceeded()], ids=["ours", "celery's"]
)
def test_an_unknown_outcome_is_remembered(error: Exception) -> None:
    kind, _, _, unsure = fate_of(error)

    assert (kind, unsure) == ("retry", True)


def test_an_unknown_outcome_is_remembered_also_where_it_is_the_last() -> None:
    told = fate_of(OutcomeUnknownError("http:cut"), since_ms=1_000_000 - 600_000)

    assert (told[0], told[3:]) == ("bury", ("unsure",))


@pytest.mark.parametrize(
    "error", [PermanentError("model:401", "wrong key"), RouteExpiredError("model:401", "wrong key")]
)
def test_what_can_t_succeed_is_buried_with_a_notice(error: Exception) -> None:
    assert fate_of(error) == ("bury", "model:401: wrong key", NOTICE)


def test_the_notice_is_told_the_error_of_the_last_attempt() -> None:
    recorder, told = Recorder(a_claim()), []
    error = PermanentError("model:401")

    run(recorder, failing(error), lambda claim, why: told.append((claim, why)))

    assert told == [(recorder.given, error)]


@pytest.mark.parametrize("error", [TransientError("feishu:500"), OutcomeUnknownError("http:cut")])
def test_a_notice_that_it_takes_longer_is_tried_once(error: Exception) -> None:
    assert fate_of(error, head="~trace-1")[:3] == ("bury", str(error), None)


def test_a_failed_notice_is_buried_without_one() -> None:
    assert fate_of(PermanentError("feishu:1"), head="!trace-1") == ("bury", "feishu:1", None)


def test_a_retry_past_the_limit_is_buried() -> None:
    kind, why, _ = fate_of(TransientError("model:503"), since_ms=1_000_000 - 600_000, attempt=9)

    assert kind == "bury"
    assert why == "gave up after 9 attempts in 600 s: model:503"


@pytest.mark.parametrize("error", [KeyError, DataError])
@pytest.mark.parametrize(("attempt", "fate"), [(1, "retry"), (2, "retry"), (3, "bury")])
def test_a_bug_gets_three_attempts(error: type[Exception], attempt: int, fate: str) -> None:
    told = fate_of(error("what a person wrote"), attempt=attempt)

    assert told[0] == fate
    assert not any("person" in str(value) for value in told)


def test_a_poisonous_head_is_buried_unseen() -> None:
    recorder = Recorder(a_claim(is_poison=True))

    run(recorder, failing(AssertionError("it was run")))

    ((kind, why, notice),) = recorder.told
    assert (kind, notice) == ("bury", NOTICE)
    assert why.startswith("poison: ")


@pytest.mark.parametrize(
    "error",
    [ClaimLostError("write_back: gone"), RedisConnectionError("cut")],
    ids=["lost", "redis"],
)
def test_without_the_claim_or_redis_nothing_is_recorded(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(a_claim())

    with caplog.at_level(logging.WARNING):
        run(recorder, failing(error))

    assert recorder.told == []
    assert caplog.messages in (["claim.lost"], ["claim.unsettled"])


@pytest.mark.parametrize("error", [ClaimLostError("retry: gone"), RedisConnectionError("cut")])
def test_a_fate_that_can_t_be_recorded_is_left_to_the_lease(error: Exception) -> None:
    recorder = Recorder(a_claim(), fails=error)

    run(recorder, failing(TransientError("model:503")))

    assert recorder.told == []


def test_a_notice_that_can_t_be_written_never_blocks_the_burial() -> None:
    recorder = Recorder(a_claim())

    def impossible(*_: Any) -> Reply | None:
        raise PermanentError("bot:unknown")

    run(recorder, failing(PermanentError("bot:unknown")), impossible)

    assert recorder.told == [("bury", "bot:unknown", None)]


@pytest.mark.parametrize("error", [KeyError("event"), ValueError("not json")])
def test_not_even_a_bug_in_the_notice_blocks_the_burial(error: Exception) -> None:
    recorder = Recorder(a_claim())

    def buggy(*_: Any) -> Reply | None:
        raise error

    run(recorder, failing(PermanentError("model:401")), buggy)

    assert recorder.told == [("bury", "model:401", None)]


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit()])
def test_what_ends_the_process_is_not_an_attempts_failure(error: BaseException) -> None:
    recorder = Recorder(a_claim())

    with pytest.raises(type(error)):
        run(recorder, failing(error))

    assert recorder.told == []


def test_a_failure_is_logged_with_the_trace_and_without_texts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        fate_of(ValueError("what a person wrote"))

    (record,) = caplog.records
    metadata = record.__dict__["metadata"]
    assert record.message == "attempt.failed"
    assert (metadata["stage"], metadata["attempt"], metadata["fate"]) == ("process", 1, "retry")
    assert "test_stage.py" in metadata["stack"]
    assert "person" not in str(metadata)


@pytest.mark.parametrize(
    ("error", "head", "level"),
    [
        (TransientError("model:503"), "trace-1", "WARNING"),
        (PermanentError("model:401"), "trace-1", "ERROR"),
        (PermanentError("feishu:230002"), "!trace-1", "WARNING"),
    ],
)
def test_what_is_given_up_is_an_error_and_a_notice_is_not_worth_one(
    error: Exception, head: str, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        fate_of(error, head=head)

    assert [record.levelname for record in caplog.records] == [level]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "ok"),
        (TransientError("model:503"), "retry"),
        (BusyError("model:busy"), "busy"),
        (PermanentError("model:400"), "dead"),
        (SoftTimeLimitExceeded(), "retry"),
        (ClaimLostError("gone"), "lost"),
        (RedisConnectionError("away"), "unsettled"),
    ],
)
def test_an_attempt_is_counted_once_by_its_outcome(error: Exception | None, outcome: str) -> None:
    metrics = Metrics()

    run(Recorder(a_claim()), failing(error) if error else lambda _: None, metrics=metrics)

    counted = {
        attempt: metrics.registry.get_sample_value(
            "clawdbot_stage_attempts_total", {"stage": "process", "outcome": attempt}
        )
        for attempt in Attempt
    }
    assert counted == {attempt: float(attempt == outcome) for attempt in Attempt}
