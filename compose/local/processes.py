"""The stack's processes, found by a mark in their environment: pid files go stale, this does not.

Every process that `make up` starts inherits the mark. So what a killed supervisor left behind is
found again, and workers that somebody started by hand in another terminal are left alone.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

MARK = "UP_STACK"  #: environment variable; its value is the absolute path of the stack's .run
_POLL_S = 0.05
_KILL_WAIT_S = 5.0


def of_stack(run: Path) -> list[int]:
    """The pids of the stack's live processes, this one excepted."""
    found = _from_proc(run) if Path("/proc/self/environ").exists() else _from_ps(run)
    return sorted(pid for pid in found if pid != os.getpid())


def end(pids: Iterable[int], *, grace_s: float) -> list[int]:
    """SIGTERM, then SIGKILL for those that outlive `grace_s`. Returns who is alive all the same."""
    left = _signal(pids, signal.SIGTERM)
    if wait_for(lambda: not living(left), timeout_s=grace_s):
        return []
    left = _signal(living(left), signal.SIGKILL)
    wait_for(lambda: not living(left), timeout_s=_KILL_WAIT_S)
    return living(left)


def living(pids: Iterable[int]) -> list[int]:
    """Those that still run; zombies don't."""
    return [pid for pid in pids if _lives(pid)]


def wait_for(condition: Callable[[], bool], *, timeout_s: float) -> bool:
    """Whether `condition` came true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _signal(pids: Iterable[int], number: signal.Signals) -> list[int]:
    reached = []
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
            reached.append(pid)
    return reached


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        status = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return not Path("/proc/self/stat").exists()
    return status.rpartition(") ")[2][:1] != "Z"


def _from_proc(run: Path) -> list[int]:
    mark = os.fsencode(f"{MARK}={run}")
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # gone meanwhile, or another user's
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
    return found


def _from_ps(run: Path) -> list[int]:
    lines = subprocess.run(
        ["ps", "-A", "-E", "-ww", "-o", "pid=,command="], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    mark = f" {MARK}={run} "
    return [int(line.split(None, 1)[0]) for line in lines if mark in f"{line} "]
