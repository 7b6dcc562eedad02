"""What a program uses of its machine: itself and all its descendants, from Linux's /proc.

prometheus-client's own process collector sees one process, and none at all in its multiprocess
mode. https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_UTIME, _CSTIME = 11, 14  # places behind "pid (name) "; between them: stime, cutime


@dataclass(frozen=True, slots=True)
class Usage:
    """processes: how many. cpu_s: of those that live, and of their children that have ended."""

    processes: int
    cpu_s: float
    memory_bytes: int


def usage(pid: int, proc: Path = PROC) -> Usage | None:
    """Of the process `pid` and its descendants; None where there is no such /proc."""
    found = [(each, _ticks(each)) for each in _tree(proc / str(pid), proc)]
    alive = [(each, ticks) for each, ticks in found if ticks is not None]
    if not alive:
        return None
    return Usage(
        processes=len(alive),
        cpu_s=sum(ticks for _, ticks in alive) / os.sysconf("SC_CLK_TCK"),
        memory_bytes=sum(_memory_bytes(each) for each, _ in alive),
    )


def children(pid: int, proc: Path = PROC) -> list[int]:
    """The pids that `pid` forked and that have not ended; none where there is no such /proc."""
    return [int(child.name) for child in _children(proc / str(pid), proc) if _is_alive(child)]


def _tree(root: Path, proc: Path) -> Iterator[Path]:
    """By the lists of children: to look at every process of the machine would take 10 ms and more.

    Kernels have them since 4.2 (CONFIG_PROC_CHILDREN).
    """
    waiting = [root]
    while waiting:
        process = waiting.pop()
        yield process
        waiting += _children(process, proc)


def _children(process: Path, proc: Path) -> Iterator[Path]:
    for listed in process.glob("task/*/children"):  # each thread has those that it forked
        with suppress(OSError):
            yield from (proc / child for child in listed.read_text().split())


def _is_alive(process: Path) -> bool:
    """Not a zombie, of which there is nothing left to end."""
    with suppress(OSError):
        return (process / "stat").read_bytes().rpartition(b") ")[2][:1] != b"Z"
    return False


def _ticks(process: Path) -> int | None:
    try:
        fields = (process / "stat").read_bytes().rpartition(b") ")[2].split()
    except OSError:  # it ended meanwhile
        return None
    return sum(int(field) for field in fields[_UTIME : _CSTIME + 1])


def _memory_bytes(process: Path) -> int:
    """Its proportional share: pages that a forked pool shares count once over all of it.

    Where that may not be read: what is resident.
    """
    with suppress(OSError, ValueError, IndexError):
        for line in (process / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    with suppress(OSError, ValueError, IndexError):
        return int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0
