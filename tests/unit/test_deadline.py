"""Deadline: budgets by a clock of our own; the watchdog on real sockets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from shared.errors import DeadlineError
from tests.clock import Clock
from workers.deadline import Deadline, Guard

PATIENT_S = 10.0


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(PATIENT_S)
        theirs.settimeout(PATIENT_S)
        yield ours, theirs


def test_total_runs_down_whatever_the_progress(clock: Clock) -> None:
    deadline = Deadline(4.5, clock=clock)
    clock.now += 4
    deadline.progress()
    assert deadline.remaining() == 0.5
    clock.now += 1
    assert deadline.remaining() == 0
    with pytest.raises(DeadlineError) as caught:
        deadline.check()
    assert caught.value.code == "deadline:total"


def test_stall_ends_what_makes_no_progress(clock: Clock) -> None:
    deadline = Deadline(60, 5, clock=clock)
    clock.now += 4.9
    deadline.check()
    clock.now += 0.1
    assert deadline.expired
    with pytest.raises(DeadlineError) as caught:
        deadline.check()
    assert caught.value.code == "deadline:stalled"


def test_progress_starts_the_stall_budget_again_but_never_past_the_total(clock: Clock) -> None:
    deadline = Deadline(12, 5, clock=clock)
    clock.now += 4
    deadline.progress()
    assert deadline.remaining() == 5
    clock.now += 4
    deadline.progress()
    assert deadline.remaining() == 4
    clock.now += 4
    with pytest.raises(DeadlineError) as caught:
        deadline.check()
    assert caught.value.code == "deadline:total"


def test_stall_budget_longer_than_the_total_is_the_total(clock: Clock) -> None:
    deadline = Deadline(3, 5, clock=clock)
    assert deadline.remaining() == 3
    assert deadline.code == "deadline:total"


def test_watchdog_ends_a_blocked_read(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, _ = pair
    deadline = Deadline(0.1)
    guard = Guard(ours)
    deadline.hold(guard)
    assert ours.recv(1) == b""
    assert deadline.expired
    deadline.release()
    guard.retire()


def test_watchdog_waits_for_a_deadline_that_moved(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    deadline = Deadline(PATIENT_S, 1.0)
    guard = Guard(ours)
    deadline.hold(guard)
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        deadline.progress()
        time.sleep(0.01)
    theirs.sendall(b"x")
    assert ours.recv(1) == b"x"
    deadline.release()
    guard.retire()


def test_progress_cannot_bring_back_a_deadline_that_was_enforced(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, _ = pair
    deadline = Deadline(PATIENT_S, 0.05)
    guard = Guard(ours)
    deadline.hold(guard)
    assert ours.recv(1) == b""
    deadline.progress()
    with pytest.raises(DeadlineError):
        deadline.check()
    deadline.release()
    guard.retire()


def test_connection_of_another_call_is_never_ended(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    first, second = Deadline(0.05), Deadline(PATIENT_S)
    guard = Guard(ours)
    first.hold(guard)
    second.hold(guard)  # handed on before the first call has let go
    first.end()
    theirs.sendall(b"x")
    assert ours.recv(1) == b"x"
    first.release()
    second.end()
    assert ours.recv(1) == b""
    second.release()
    guard.retire()


def test_hold_after_the_deadline_is_refused(pair: tuple[socket.socket, socket.socket]) -> None:
    deadline = Deadline(0)
    guard = Guard(pair[0])
    with pytest.raises(DeadlineError):
        deadline.hold(guard)
    deadline.release()
    guard.retire()


def test_retired_guard_stays_good_until_its_call_is_over(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    deadline = Deadline(PATIENT_S)
    guard = Guard(ours)
    deadline.hold(guard)
    guard.retire()
    ours.close()
    theirs.setblocking(False)
    with pytest.raises(BlockingIOError):  # the duplicate still keeps the connection
        theirs.recv(1)
    deadline.release()
    assert theirs.recv(1) == b""


def test_watchdog_survives_a_broken_connection() -> None:
    class Broken(Guard):
        __slots__ = ()

        def shut(self, owner: Deadline) -> None:
            shut.set()
            raise RuntimeError("broken")

    shut = threading.Event()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        broken, good = Broken(ours), Guard(theirs)
        first, second = Deadline(0.05), Deadline(0.2)
        first.hold(broken)
        second.hold(good)
        assert shut.wait(PATIENT_S)
        theirs.settimeout(PATIENT_S)
        assert theirs.recv(1) == b""
        for deadline, guard in ((first, broken), (second, good)):
            deadline.release()
            guard.retire()


def test_one_watchdog_thread_serves_thousands_of_deadlines() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        guards = [Guard(ours) for _ in range(100)]
        deadlines = []
        for number in range(3000):
            deadline = Deadline(PATIENT_S + number % 7)
            deadline.hold(guards[number % 100])
            deadlines.append(deadline)
        watchdogs = [thread for thread in threading.enumerate() if thread.name == "deadlines"]
        assert len(watchdogs) == 1
        for deadline in deadlines:
            deadline.release()
        for guard in guards:
            guard.retire()
