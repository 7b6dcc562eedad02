"""A bucket per address: rates, prices, and what is remembered."""

from __future__ import annotations

import math
import random

import pytest

from ingress import guard as module
from ingress.guard import PROVED_S, REFUSAL_PRICE, Guard
from tests.clock import Clock

RATE = 100


@pytest.fixture
def guard(clock: Clock) -> Guard:
    return Guard(RATE, clock)


def admitted(guard: Guard, calls: int, group: str = "a") -> int:
    return sum(guard.admit(group) == 0 for _ in range(calls))


def refused(guard: Guard, calls: int, group: str = "a") -> int:
    """How many calls of somebody who can't sign come in."""
    count = 0
    for _ in range(calls):
        if guard.admit(group) == 0:
            guard.refused(group)
            count += 1
    return count


def test_a_second_s_worth_comes_in_at_once_and_then_the_rate(guard: Guard, clock: Clock) -> None:
    assert admitted(guard, 3 * RATE) == RATE
    clock.now += 0.5
    assert admitted(guard, 3 * RATE) == RATE // 2
    clock.now += 3600
    assert admitted(guard, 3 * RATE) == RATE


def test_the_wait_that_is_told_is_enough(guard: Guard, clock: Clock) -> None:
    assert refused(guard, 3 * RATE) > 0
    clock.now += guard.admit("a") + 1e-6

    assert guard.admit("a") == 0


def test_addresses_don_t_pay_for_each_other(guard: Guard) -> None:
    assert admitted(guard, 2 * RATE, "a") == RATE
    assert admitted(guard, 2 * RATE, "b") == RATE


def test_refused_calls_cost_ten_times_as_much(guard: Guard, clock: Clock) -> None:
    assert refused(guard, RATE) == math.ceil(RATE / REFUSAL_PRICE)
    clock.now += 60
    refused(guard, RATE)
    clock.now += 60
    assert refused(guard, 10) == 10


def test_an_address_of_authentic_calls_pays_no_more_for_refused_ones(
    guard: Guard, clock: Clock
) -> None:
    guard.admit("a")
    guard.proved("a")

    assert refused(guard, 2 * RATE) == RATE - 1

    clock.now += PROVED_S + 1
    assert refused(guard, 2 * RATE) == math.ceil(RATE / REFUSAL_PRICE)


def test_a_stranger_behind_the_same_proxy_does_not_keep_honest_calls_out_for_long(
    guard: Guard, clock: Clock
) -> None:
    """Of 21 calls 20 are his, until one of the others comes in."""
    rng = random.Random(6)
    began = clock.now
    while True:
        clock.now += 0.0005
        is_honest = rng.randrange(21) == 0
        if is_honest and guard.admit("a") == 0:
            break
        if not is_honest:
            refused(guard, 1)
    guard.proved("a")

    assert clock.now - began < 10
    clock.now += 1
    assert refused(guard, 2 * RATE) == RATE


def test_debts_have_an_end(guard: Guard, clock: Clock) -> None:
    for _ in range(RATE):
        guard.admit("a")
    for _ in range(RATE):
        guard.refused("a")
    clock.now += 2.02

    assert admitted(guard, RATE) > 0


@pytest.mark.parametrize("rate", [1, 2, 5])
def test_small_rates_are_kept_too(rate: int, clock: Clock) -> None:
    guard = Guard(rate, clock)
    assert admitted(guard, 10) == rate
    clock.now += 1.0
    assert admitted(guard, 10) == rate


def test_a_new_rate_counts_from_the_next_call_on(guard: Guard, clock: Clock) -> None:
    assert admitted(guard, 2 * RATE) == RATE
    guard.renew(10 * RATE)
    clock.now += 1.0
    assert admitted(guard, 20 * RATE) == 10 * RATE
    guard.renew(RATE)
    clock.now += 60
    assert admitted(guard, 20 * RATE) == RATE


def test_no_more_addresses_are_remembered_than_there_is_room_for(
    guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CAPACITY", 3)
    admitted(guard, 2 * RATE, "busy")
    for n in range(100):
        assert guard.admit(f"passing {n}") == 0
        assert guard.admit("busy") > 0  # it is never the one silent for longest

    assert len(guard._buckets) == 3


def test_what_was_forgotten_can_still_be_told_of(guard: Guard) -> None:
    guard.refused("never seen")
    guard.proved("never seen")

    assert guard.admit("never seen") == 0
