"""Real processes that tests kill, stop, freeze and start again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

END_TIMEOUT_S = 20
TAIL_LINES = 30

T = TypeVar("T")


def wait_until(condition: Callable[[], T], timeout_s: float, what: str) -> T:
    """The first true value of `condition`, asked again and again.

    Raises:
        AssertionError: there was none in time; the text says `what` did not happen.
    """
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.02)
    return value


class Process:
    """One command with its log. Every start gets a process group of its own."""

    def __init__(
        self, name: str, command: Sequence[str], *, directory: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        self._command = list(command)
        self._directory = directory
        self._environment = dict(environment)
        self._started: list[subprocess.Popen[bytes]] = []
        self._is_wanted = False
        self._lock = threading.RLock()  # a test and the supervising thread both start it

    @property
    def pid(self) -> int:
        return self._started[-1].pid

    @property
    def starts(self) -> int:
        """How often it was started."""
        return len(self._started)

    @property
    def is_running(self) -> bool:
        return bool(self._started) and self._started[-1].poll() is None

    def start(self) -> None:
        """Start it, without waiting for anything."""
        with self._lock, self.log.open("ab") as log:
            self._is_wanted = True
            self._started.append(
                subprocess.Popen(
                    self._command,
                    cwd=self._directory,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    def revive(self) -> None:
        """Start it again if it ended by itself or was killed."""
        with self._lock:
            if self._is_wanted and not self.is_running:
                self.start()

    def kill(self) -> None:
        """SIGKILL to this very process; what it forked is left to itself."""
        with self._lock:
            self.send_signal(signal.SIGKILL)
            self._started[-1].wait(END_TIMEOUT_S)

    def stop(self) -> bool:
        """SIGTERM, and wait for its end; SIGKILL if there is none, as every supervisor does.

        It is not revived. Returns whether it ended by itself.
        """
        with self._lock:
            self._is_wanted = False
            self.send_signal(signal.SIGTERM)
            try:
                self._started[-1].wait(END_TIMEOUT_S)
                return True
            except subprocess.TimeoutExpired:
                self.send_signal(signal.SIGUSR1)  # Celery writes its stacks into its log
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._started[-1].wait(1)
                self.kill()
                return False

    def send_signal(self, number: signal.Signals) -> None:
        self._started[-1].send_signal(number)

    def children(self) -> list[int]:
        """The processes it forked."""
        listed = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
        ).stdout
        pairs = (line.split() for line in listed.splitlines())
        return [int(pid) for pid, parent in pairs if int(parent) == self.pid]

    def end(self) -> None:
        """End every process that any start of it left behind."""
        with self._lock:
            self._is_wanted = False
            for started in self._started:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(started.pid, signal.SIGKILL)
                started.wait(END_TIMEOUT_S)

    def tail(self) -> str:
        """The end of its log, without the lines of what went well."""
        lines = self.log.read_text("utf-8", "replace").splitlines() if self.log.exists() else []
        return "\n".join([line for line in lines if '"level":"INFO"' not in line][-TAIL_LINES:])


class Supervisor:
    """Starts again what has died, as an operator's supervisor would."""

    INTERVAL_S = 0.2

    def __init__(self, processes: Sequence[Process]) -> None:
        self._processes = processes
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self.INTERVAL_S):
            for process in self._processes:
                process.revive()
