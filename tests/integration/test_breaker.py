"""A model's breaker, on a real Redis: shared by processes, opened, probed, closed."""

from __future__ import annotations

import pytest
import redis

from shared.errors import BreakerOpenError
from shared.state import keys
from tests.clock import Clock
from workers.model.breaker import LOOK_S, Breaker, Limits

LIMITS = Limits(failures=4, ratio=0.5, window_s=30, open_s=20)


class Process:
    """One process's breaker of the model `main`, with a clock that tests turn."""

    def __init__(self, client: redis.Redis, limits: Limits = LIMITS) -> None:
        self.clock = Clock()
        self.breaker = Breaker(client, "main", limits, clock=self.clock)

    def fail(self, times: int = 1) -> None:
        for _ in range(times):
            self.breaker.ended("", first_token_s=None)

    def succeed(self, times: int = 1, *, after_s: float = 0.1) -> None:
        for _ in range(times):
            self.breaker.ended("", first_token_s=after_s)

    def later(self, seconds: float = LOOK_S) -> str:
        """Ask for a permit when what is known has grown old."""
        self.clock.now += seconds
        return self.breaker.permit()

    @property
    def is_open(self) -> bool:
        try:
            return bool(self.breaker.permit())
        except BreakerOpenError:
            return True


@pytest.fixture
def process(redis_client: redis.Redis) -> Process:
    return Process(redis_client)


def end_the_wait(client: redis.Redis) -> None:
    """As if the time for which the breaker is open were over."""
    client.hset(keys.breaker("main"), "open_until", 1)


def test_too_many_failures_open_it(process: Process) -> None:
    process.fail(3)
    assert not process.is_open

    process.fail()

    with pytest.raises(BreakerOpenError) as caught:
        process.breaker.permit()
    assert 19 < caught.value.retry_after_s <= 20


def test_failures_among_more_successes_do_not_open_it(process: Process) -> None:
    process.succeed(20)
    process.fail(8)

    assert not process.is_open


def test_successes_of_long_ago_do_not_count(process: Process) -> None:
    process.succeed(20)
    process.clock.now += 31
    process.succeed()
    process.fail(4)

    assert process.is_open


def test_another_process_learns_of_it_within_a_second(
    process: Process, redis_client: redis.Redis
) -> None:
    other = Process(redis_client)
    assert other.breaker.permit() == ""
    process.fail(4)
    assert other.breaker.permit() == ""  # what it knows is young

    with pytest.raises(BreakerOpenError):
        other.later()


def test_failures_of_several_processes_add_up(process: Process, redis_client: redis.Redis) -> None:
    other = Process(redis_client)
    process.fail(2)
    other.fail(2)

    assert other.is_open
    with pytest.raises(BreakerOpenError):
        process.later()


def test_one_probe_is_let_through_and_closes_it(
    process: Process, redis_client: redis.Redis
) -> None:
    other = Process(redis_client)
    process.fail(4)
    end_the_wait(redis_client)

    probe = process.later()
    assert probe
    with pytest.raises(BreakerOpenError) as caught:
        other.later()
    assert caught.value.retry_after_s <= 1, "the probe may close it at any moment"
    with pytest.raises(BreakerOpenError):
        process.breaker.permit()

    process.breaker.ended(probe, first_token_s=0.1)

    assert process.later() == ""
    assert other.later() == ""
    assert redis_client.exists(keys.breaker("main")) == 0


def test_a_failed_probe_opens_it_again(process: Process, redis_client: redis.Redis) -> None:
    process.fail(4)
    end_the_wait(redis_client)
    probe = process.later()

    process.breaker.ended(probe, first_token_s=None)

    with pytest.raises(BreakerOpenError) as caught:
        process.breaker.permit()
    assert 19 < caught.value.retry_after_s <= 20


def wait_of(process: Process) -> float:
    """For how long it is open."""
    with pytest.raises(BreakerOpenError) as caught:
        process.breaker.permit()
    return caught.value.retry_after_s


def test_it_stays_open_for_as_long_as_the_endpoint_asked(
    process: Process, redis_client: redis.Redis
) -> None:
    process.fail(3)
    process.breaker.ended("", first_token_s=None, asked_s=60)
    assert 59 < wait_of(process) <= 60
    end_the_wait(redis_client)
    probe = process.later()

    process.breaker.ended(probe, first_token_s=None, asked_s=70)

    assert 69 < wait_of(process) <= 70
    assert 69 < wait_of(Process(redis_client)) <= 70


def test_a_call_from_before_it_opened_may_still_ask_for_more(process: Process) -> None:
    process.fail(4)

    process.breaker.ended("", first_token_s=None, asked_s=60)
    assert 59 < wait_of(process) <= 60
    process.breaker.ended("", first_token_s=None, asked_s=30)
    assert 59 < wait_of(process) <= 60


def test_no_endpoint_keeps_it_open_for_ever(process: Process) -> None:
    process.fail(3)
    process.breaker.ended("", first_token_s=None, asked_s=1e9)

    assert 119 < wait_of(process) <= 120


def test_one_call_that_is_asked_to_wait_opens_nothing(process: Process) -> None:
    process.breaker.ended("", first_token_s=None, asked_s=60)

    assert not process.is_open


def test_a_probe_whose_process_died_is_replaced(
    process: Process, redis_client: redis.Redis
) -> None:
    process.fail(4)
    end_the_wait(redis_client)
    lost = process.later()
    redis_client.hset(keys.breaker("main"), "probe_until", 1)

    probe = Process(redis_client).later()

    assert probe not in ("", lost)


@pytest.fixture
def replaced(process: Process, redis_client: redis.Redis) -> str:
    """A probe of `process` that takes so long that there is another by now."""
    process.fail(4)
    end_the_wait(redis_client)
    slow = process.later()
    redis_client.hset(keys.breaker("main"), "probe_until", 1)
    assert Process(redis_client).later() not in ("", slow)
    return slow


def test_a_slow_probe_closes_it_although_there_is_another_by_now(
    process: Process, replaced: str, redis_client: redis.Redis
) -> None:
    process.breaker.ended(replaced, first_token_s=20)

    assert process.breaker.permit() == ""
    assert Process(redis_client).later() == ""


def test_a_slow_probe_that_fails_leaves_the_decision_to_the_other(
    process: Process, replaced: str, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    before = redis_client.hgetall(keys.breaker("main"))
    caplog.clear()

    process.breaker.ended(replaced, first_token_s=None)

    assert redis_client.hgetall(keys.breaker("main")) == before
    assert caplog.messages == []


def test_calls_from_before_it_opened_change_nothing(
    process: Process, redis_client: redis.Redis
) -> None:
    other = Process(redis_client)
    process.fail(4)
    before = redis_client.hgetall(keys.breaker("main"))

    other.fail(3)

    assert redis_client.hgetall(keys.breaker("main")) == before


def test_slow_answers_count_as_failures(redis_client: redis.Redis) -> None:
    process = Process(redis_client, Limits(4, 0.5, 30, 20, slow_s=3))
    process.succeed(4, after_s=2.9)
    assert not process.is_open

    process.succeed(4, after_s=3.1)

    assert process.is_open


def test_a_breaker_that_is_off_asks_nothing(redis_client: redis.Redis) -> None:
    process = Process(redis_client, Limits(0, 0.5, 30, 20))
    process.fail(50)

    assert process.later() == ""
    assert redis_client.dbsize() == 0


def test_a_healthy_model_costs_one_look_a_second(
    process: Process, redis_client: redis.Redis
) -> None:
    before = redis_client.info("commandstats")
    for _ in range(100):
        assert process.breaker.permit() == ""
        process.succeed()
    after = redis_client.info("commandstats")

    assert _scripts(after) - _scripts(before) == 1


def test_without_redis_it_is_closed(process: Process) -> None:
    away = Process(redis.Redis(port=1, socket_connect_timeout=0.2))
    away.fail(5)

    assert away.later() == ""


def _scripts(stats: dict[str, dict[str, int]]) -> int:
    """Calls without those that failed, since a script had to be loaded first."""
    found = [stats.get(f"cmdstat_{name}", {}) for name in ("evalsha", "eval")]
    return sum(each.get("calls", 0) - each.get("failed_calls", 0) for each in found)
