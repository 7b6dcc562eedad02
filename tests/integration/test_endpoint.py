"""One model with its breaker, slots and keys, on a real Redis; only what it says is made up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
import redis
from redis.exceptions import ConnectionError as RedisConnectionError

from shared.errors import (
    BreakerOpenError,
    BusyError,
    DeadlineError,
    KeyRefusedError,
    PermanentError,
    RateLimitedError,
    TaskError,
    TransientError,
)
from shared.http_values import HttpResponse
from shared.state import keys
from shared.trace_context import Trace
from tests.clock import Clock
from workers.deadline import Deadline
from workers.metrics import Metrics
from workers.model.breaker import Breaker, Limits
from workers.model.chain import Models
from workers.model.chat import Answer, Model
from workers.model.endpoint import Endpoint
from workers.model.errors import http_error
from workers.model.keys import ModelKey
from workers.model.slots import Slots

NAME = "main"
LIMITS = Limits(failures=1, ratio=0.5, window_s=30, open_s=20)


Says = Callable[[Deadline], Answer]


class Said:
    """In the place of `Model`: does what it was given."""

    def __init__(self, says: Says) -> None:
        self.says = says

    def answer(self, _: Any, __: str, deadline: Deadline, *___: Any) -> Answer:
        return self.says(deadline)


class Keys:
    """In the place of a key source: one key, or `failure`."""

    def __init__(self) -> None:
        self.failure: Exception | None = None

    def usable(self, _: Deadline) -> Iterator[ModelKey]:
        if self.failure is not None:
            raise self.failure
        yield ModelKey("key-1", "sk-1")

    def refused(self, _: ModelKey) -> None:
        """Nobody asks again."""


class Bench:
    """An endpoint with one slot, whose breaker opens with the first failure."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.keys = Keys()
        self.slots = Slots(client, {NAME: 1}, 0)

    def endpoint(self, says: Says, name: str = NAME, limits: Limits = LIMITS) -> Endpoint:
        """As another process would have it: it knows nothing of the breaker."""
        model, breaker = cast(Model, Said(says)), Breaker(self.client, name, limits)
        return Endpoint(name, model, self.keys, breaker, self.slots, Metrics())

    def ask(self, says: Says) -> str:
        return self.endpoint(says).answer([], Deadline(60, 5), Trace("trace")).text

    def await_probe(self) -> None:
        """Open the breaker, and end the time for which it is open."""
        with pytest.raises(TransientError):
            self.ask(failing(TransientError("model:500")))
        self.client.hset(keys.breaker(NAME), "open_until", 1)

    @property
    def is_open(self) -> bool:
        return bool(self.client.hexists(keys.breaker(NAME), "open_until"))


@pytest.fixture
def bench(redis_client: redis.Redis) -> Bench:
    return Bench(redis_client)


def hello(_: Deadline) -> Answer:
    return Answer("hello")


def failing(error: TaskError) -> Says:
    def says(_: Deadline) -> Answer:
        raise error

    return says


def test_a_probe_that_finds_no_slot_leaves_its_turn_to_the_next_call(bench: Bench) -> None:
    bench.await_probe()
    endpoint = bench.endpoint(hello)
    with bench.slots.taken(NAME, 0):
        for _ in range(2):
            with pytest.raises(BusyError):
                endpoint.answer([], Deadline(60, 5), Trace("trace"))

    assert bench.is_open
    assert bench.ask(hello) == "hello"
    assert not bench.is_open


@pytest.mark.parametrize(
    "failure",
    [KeyRefusedError("baidu:401"), PermanentError("baidu:404")],
    ids=lambda error: error.code,
)
def test_a_probe_without_a_key_leaves_its_turn_to_the_next_call(
    bench: Bench, failure: TaskError
) -> None:
    bench.await_probe()
    bench.keys.failure = failure

    with pytest.raises(KeyRefusedError, match=failure.code):
        bench.ask(hello)

    assert bench.is_open, "nobody knows whether the model is back"
    bench.keys.failure = None
    assert bench.ask(hello) == "hello"


@pytest.mark.parametrize(
    "failure",
    [TransientError("baidu:503"), RateLimitedError("baidu:429"), TransientError("token:busy")],
    ids=lambda error: error.code,
)
def test_a_cloud_that_gives_no_key_now_is_not_the_models_failure(
    bench: Bench, failure: TransientError
) -> None:
    bench.keys.failure = failure

    with pytest.raises(TransientError) as raised:
        bench.ask(hello)

    assert raised.value is failure
    assert not bench.is_open
    bench.keys.failure = None
    bench.await_probe()
    bench.keys.failure = failure
    with pytest.raises(TransientError, match=failure.code):
        bench.ask(hello)
    assert bench.is_open, "nobody knows whether the model is back"
    bench.keys.failure = None
    assert bench.ask(hello) == "hello"


def test_keys_that_redis_does_not_give_are_a_failed_attempt_and_no_word_of_the_model(
    bench: Bench,
) -> None:
    bench.await_probe()
    bench.keys.failure = RedisConnectionError("cut")

    with pytest.raises(TransientError, match="keys:redis"):
        bench.ask(hello)

    assert bench.is_open, "nobody knows whether the model is back"
    bench.keys.failure = None
    assert bench.ask(hello) == "hello", "the probe was given back"


def test_a_probe_that_the_model_refuses_closes_the_breaker(bench: Bench) -> None:
    bench.await_probe()

    with pytest.raises(KeyRefusedError, match="model:401"):
        bench.ask(failing(KeyRefusedError("model:401")))

    assert not bench.is_open


def test_a_probe_that_is_asked_to_wait_keeps_the_breaker_open_for_so_long(bench: Bench) -> None:
    bench.await_probe()

    with pytest.raises(RateLimitedError):
        bench.ask(failing(RateLimitedError("model:429", retry_after_s=60)))

    with pytest.raises(BreakerOpenError) as caught:
        bench.ask(hello)
    assert 50 < caught.value.retry_after_s <= 60


FAILED_FOR_NOW = [
    (503, {"retry-after": "300"}, 120),
    (429, {"retry-after": "300"}, 120),
    (503, {"x-should-retry": "false"}, 20),
    (500, {"x-should-retry": "false", "retry-after": "60"}, 60),
]


@pytest.mark.parametrize(("status", "headers", "open_s"), FAILED_FOR_NOW)
def test_a_probe_that_fails_for_now_keeps_the_breaker_open(
    bench: Bench, status: int, headers: dict[str, str], open_s: int
) -> None:
    bench.await_probe()
    error = http_error(HttpResponse(status, headers, b""), now=0)

    with pytest.raises(PermanentError, match=f"model:{status}"):
        bench.ask(failing(error))

    with pytest.raises(BreakerOpenError) as caught:
        bench.ask(hello)
    assert open_s - 10 < caught.value.retry_after_s <= open_s


@pytest.mark.parametrize(("status", "headers", "open_s"), FAILED_FOR_NOW)
def test_what_fails_for_now_counts_as_a_failure(
    bench: Bench, status: int, headers: dict[str, str], open_s: int
) -> None:
    with pytest.raises(PermanentError):
        bench.ask(failing(http_error(HttpResponse(status, headers, b""), now=0)))

    with pytest.raises(BreakerOpenError) as caught:
        bench.ask(hello)
    assert open_s - 10 < caught.value.retry_after_s <= open_s


def test_a_refusal_counts_as_none_whatever_wait_it_names(bench: Bench) -> None:
    error = http_error(HttpResponse(400, {"retry-after": "300"}, b""), now=0)

    with pytest.raises(PermanentError):
        bench.ask(failing(error))

    assert not bench.is_open


def chain_of(bench: Bench, *says: Says) -> Callable[[Deadline], Answer]:
    """A chain of `main`, `other`, …, of which each says this."""
    named = dict(zip((NAME, "other"), says, strict=True))
    models = Models({name: bench.endpoint(does, name) for name, does in named.items()})
    return lambda deadline: models.answer(tuple(named), [], deadline, Trace("trace"))


def test_the_next_model_has_the_time_that_the_first_left(bench: Bench) -> None:
    clock = Clock()
    left: list[float] = []

    def fail_late(_: Deadline) -> Answer:
        clock.now += 3
        raise TransientError("model:500")

    def look(deadline: Deadline) -> Answer:
        left.append(deadline.remaining())
        return Answer("hello")

    chain_of(bench, fail_late, look)(Deadline(60, 5, clock=clock))

    assert left == [2]


def silent(clock: Clock, *thoughts_s: float) -> Says:
    """Thinks after each of these times, and then says nothing until the deadline."""

    def says(deadline: Deadline) -> Answer:
        for after_s in thoughts_s:
            clock.now += after_s
            deadline.progress()
        clock.now += deadline.remaining()
        raise deadline.error()

    return says


def failing_after(clock: Clock, seconds: float) -> Says:
    def says(_: Deadline) -> Answer:
        clock.now += seconds
        raise PermanentError("model:402")

    return says


def test_a_model_is_not_blamed_for_the_time_that_the_one_before_used_up(bench: Bench) -> None:
    clock = Clock()
    ask = chain_of(bench, failing_after(clock, 3), silent(clock))

    with pytest.raises(DeadlineError):
        ask(Deadline(60, 5, clock=clock))

    assert not bench.client.exists(keys.breaker("other"))


def test_a_probe_that_had_too_little_time_leaves_its_turn_to_the_next_call(bench: Bench) -> None:
    bench.await_probe()
    clock = Clock()
    deadline = Deadline(60, 5, clock=clock)
    clock.now += 3
    with pytest.raises(DeadlineError):
        bench.endpoint(silent(clock)).answer([], deadline, Trace("trace"))

    assert bench.is_open, "nobody knows whether the model is back"
    assert bench.ask(hello) == "hello"
    assert not bench.is_open


@pytest.mark.parametrize(
    ("used_s", "thoughts_s"), [(0, ()), (0.5, ()), (3, (1, 1))], ids=["all", "most", "thinking"]
)
def test_a_model_that_had_its_time_is_blamed_for_silence(
    bench: Bench, used_s: float, thoughts_s: tuple[float, ...]
) -> None:
    clock = Clock()
    ask = chain_of(bench, failing_after(clock, used_s), silent(clock, *thoughts_s))

    with pytest.raises(DeadlineError):
        ask(Deadline(60, 5, clock=clock))

    assert bench.client.hexists(keys.breaker("other"), "open_until")


def test_the_wait_for_a_slot_is_not_the_models_silence(bench: Bench) -> None:
    clock = Clock()
    left: list[float] = []

    def look(deadline: Deadline) -> Answer:
        left.append(deadline.remaining())
        return Answer("hello")

    deadline = Deadline(60, 5, clock=clock)
    clock.now += 2
    bench.endpoint(look).answer([], deadline, Trace("trace"), slot_wait_s=2.5)

    assert left == [5]


def test_a_whole_answer_that_is_slow_counts_as_a_failure(bench: Bench) -> None:
    limits = Limits(failures=1, ratio=0.5, window_s=30, open_s=20, slow_s=0.01)

    def whole(_: Deadline) -> Answer:
        time.sleep(0.02)
        return Answer("hello", first_token_s=0)

    bench.endpoint(whole, limits=limits).answer([], Deadline(60, 5), Trace("trace"))

    assert bench.is_open
