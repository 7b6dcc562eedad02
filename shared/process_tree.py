"""What a program uses of its machine: itself and all its descendants, from Linux's /proc.

prometheus-client's own process collector sees one process, and none at all in its multiprocess
mode. https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_PPID, _UTIME, _STIME, _CUTIME, _CSTIME = 1, 11, 12, 13, 14  # places behind "pid (name) "


@dataclass(frozen=True, slots=True)
class Usage:
    """processes: how many. cpu_s: of those that live, and of their children that have ended."""

    processes: int
    cpu_s: float
    memory_bytes: int


def usage(pid: int, proc: Path = PROC) -> Usage | None:
    """Of the process `pid` and its descendants; None where there is no such /proc."""
    stats = dict(_stats(proc))
    if pid not in stats:
        return None
    tree = list(_descendants(pid, stats))
    ticks = sum(sum(stats[each][_UTIME : _CSTIME + 1]) for each in tree)
    return Usage(
        processes=len(tree),
        cpu_s=ticks / os.sysconf("SC_CLK_TCK"),
        memory_bytes=sum(_memory_bytes(proc / str(each)) for each in tree),
    )


def _stats(proc: Path) -> Iterator[tuple[int, list[int]]]:
    for entry in _entries(proc):
        with suppress(OSError, ValueError):  # it ended meanwhile
            fields = (proc / entry / "stat").read_bytes().rpartition(b") ")[2].split()
            yield int(entry), [0, *(int(field) for field in fields[1 : _CSTIME + 1])]


def _entries(proc: Path) -> Iterable[str]:
    try:
        return [name for name in os.listdir(proc) if name.isdigit()]
    except OSError:
        return []


def _descendants(pid: int, stats: dict[int, list[int]]) -> Iterator[int]:
    children = defaultdict(list)
    for each, fields in stats.items():
        children[fields[_PPID]].append(each)
    waiting = [pid]
    while waiting:
        each = waiting.pop()
        yield each
        waiting += children[each]


def _memory_bytes(process: Path) -> int:
    """Its proportional share: pages that a forked pool shares count once over all of it.

    Costs about a millisecond for each 100 MB. Where it may not be read: what is resident.
    """
    with suppress(OSError, ValueError, IndexError):
        for line in (process / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    with suppress(OSError, ValueError, IndexError):
        return int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0
