"""A true deadline for blocking sockets: on threads, gevent and prefork alike.

A socket's own timeout starts again with every byte, so a server that drips is never timed out.
Here one watchdog thread per process (a greenlet under gevent) holds a heap of deadlines and ends
the TCP connection of a call that is past its own. The thread is started by the first call, and
again in a forked child.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from shared.errors import DeadlineError

TICK_S = 0.02  #: how late the watchdog may be; it wakes at most once in this time
IDLE_S = 60.0  #: how long it sleeps when there is nothing to watch

log = logging.getLogger(__name__)


class Deadline:
    """The time by which a piece of work must be done. Passed down, never restarted.

    total_s: for everything together.
    stall_s: without `progress()`; None: only the total counts.
    """

    __slots__ = ("_border", "_clock", "_end", "_ended", "_guard", "_stall_s", "watched")

    def __init__(
        self,
        total_s: float,
        stall_s: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._end = clock() + total_s
        self._stall_s = stall_s
        self._border = self._end
        self._ended = False
        self._guard: Guard | None = None
        self.watched = False  # the watchdog's note: stands in its heap
        self.progress()

    def progress(self) -> None:
        """Something came: the stall budget starts again, within the total."""
        if self._stall_s is not None and not self._ended:
            self._border = min(self._clock() + self._stall_s, self._end)

    def remaining(self) -> float:
        """Seconds left without progress; 0 when there are none."""
        return 0.0 if self._ended else max(0.0, self._border - self._clock())

    def now(self) -> float:
        """The time by its clock."""
        return self._clock()

    def gave(self, share: float, *, since: float) -> bool:
        """Whether work that began at `since` has had this share of the stall budget by now."""
        return self._stall_s is None or self._clock() - since >= share * self._stall_s

    @property
    def expired(self) -> bool:
        return self.remaining() <= 0

    @property
    def code(self) -> str:
        """`deadline:total` or `deadline:stalled`: which of the two ends first."""
        return "deadline:total" if self._border >= self._end else "deadline:stalled"

    def check(self) -> None:
        """Raises: DeadlineError, when the time is over."""
        if self.expired:
            raise self.error()

    def error(self) -> DeadlineError:
        whole = self.code == "deadline:total"
        return DeadlineError(self.code, "not done in time" if whole else "no progress in time")

    def hold(self, guard: Guard) -> None:
        """From now on, end this connection when the time is over. Raises: DeadlineError."""
        if guard is not self._guard:
            self.release()
        guard.take(self)
        self._guard = guard
        _watchdog().watch(self)
        self.check()  # after watching: the watchdog may have looked before the guard was there

    def release(self) -> None:
        """The call is over: its connection lives on."""
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.leave(self)

    @property
    def holds(self) -> bool:
        return self._guard is not None

    def end(self) -> None:
        """For the watchdog: the time is over, and `progress()` can't bring it back."""
        self._ended = True
        guard = self._guard
        if guard is not None:
            guard.shut(self)


class Guard:
    """A second handle on a TCP connection, by which another thread can end it.

    The handle is a duplicate: it stays good while TLS wraps the socket, and its number can't be
    given to another file in between. It ends the connection only for the deadline that owns it,
    so a connection already handed to another call is safe.
    """

    __slots__ = ("_lock", "_owner", "_retired", "_sock")

    def __init__(self, sock: socket.socket) -> None:
        self._lock = threading.Lock()
        self._owner: Deadline | None = None
        self._retired = False
        self._sock = sock.dup()

    def take(self, owner: Deadline) -> None:
        with self._lock:
            self._owner = owner

    def shut(self, owner: Deadline) -> None:
        with self._lock:
            if self._owner is owner:
                with suppress(OSError):  # already gone
                    socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def leave(self, owner: Deadline | None = None) -> None:
        """No longer `owner`'s (None: nobody's)."""
        with self._lock:
            if owner is None or owner is self._owner:
                self._owner = None
                if self._retired:
                    self._sock.close()

    def retire(self) -> None:
        """The connection is closed: close the duplicate, too, or the peer never sees the end.

        http.client closes a connection that can't be kept *before* the body is read, so while a
        call owns the guard this waits for its end.
        """
        with self._lock:
            self._retired = True
            if self._owner is None:
                self._sock.close()


class _Watchdog:
    """Sleeps until the next deadline. A moved deadline is found out when its old time comes."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._heap: list[tuple[float, int, Deadline]] = []
        self._numbers = itertools.count()
        self._wakes_at = 0.0
        self._thread: threading.Thread | None = None

    def watch(self, deadline: Deadline) -> None:
        with self._changed:
            if not deadline.watched:
                deadline.watched = True
                self._push(deadline, time.monotonic())
            if self._thread is None:  # `is_alive` is dear under gevent
                self._thread = threading.Thread(target=self._run, name="deadlines", daemon=True)
                self._thread.start()
            elif self._heap[0][0] < self._wakes_at:
                self._changed.notify()

    def _push(self, deadline: Deadline, now: float) -> None:
        heapq.heappush(self._heap, (now + deadline.remaining(), next(self._numbers), deadline))

    def _run(self) -> None:
        try:
            while True:
                self._end_due_or_log()
        finally:
            self._thread = None  # the next deadline starts another

    def _end_due_or_log(self) -> None:
        try:
            for deadline in self._wait_for_due():
                deadline.end()
        except Exception:  # without the watchdog every later call could hang
            log.exception("watchdog.failed")

    def _wait_for_due(self) -> list[Deadline]:
        with self._changed:
            now = time.monotonic()
            pause = max(self._heap[0][0] - now, TICK_S) if self._heap else IDLE_S
            self._wakes_at = now + pause
            self._changed.wait(pause)
            self._wakes_at = 0.0
            return self._take_due(time.monotonic())

    def _take_due(self, now: float) -> list[Deadline]:
        due = []
        while self._heap and self._heap[0][0] <= now:
            deadline = heapq.heappop(self._heap)[2]
            deadline.watched = deadline.holds and not deadline.expired
            if deadline.watched:
                self._push(deadline, now)
            elif deadline.holds:
                due.append(deadline)
        return due


_watchdogs: dict[int, _Watchdog] = {}


def _watchdog() -> _Watchdog:
    """This process's own: after a fork the parent's has no thread, and perhaps a held lock."""
    return _watchdogs.get(os.getpid()) or _watchdogs.setdefault(os.getpid(), _Watchdog())
