"""What processes cost, as Linux counts it in /proc: CPU seconds, and memory shared out fairly."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

TICKS = os.sysconf("SC_CLK_TCK")
MIB = 1024 * 1024


def group_pids(leaders: Iterable[int]) -> list[int]:
    """`leaders` and the processes of their groups: a worker and what it forked."""
    wanted = set(leaders)
    processes = [path for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [int(p.name) for p in processes if int(p.name) in wanted or _group(p) in wanted]


def cpu_s(leaders: Iterable[int]) -> float:
    """User and system time of the groups so far, that of ended children included."""
    ticks = 0
    for pid in group_pids(leaders):
        fields = _stat(Path(f"/proc/{pid}"))
        ticks += sum(int(fields[i]) for i in (11, 12, 13, 14)) if fields else 0
    return ticks / TICKS


def memory_mib(leaders: Iterable[int]) -> float:
    """Proportional set size: a page shared by n processes counts as a n-th for each."""
    return sum(_pss(pid) for pid in group_pids(leaders)) / MIB


class MemoryPeak:
    """Looks once a second; `with MemoryPeak(leaders) as peak: …; peak.mib`."""

    INTERVAL_S = 1.0

    def __init__(self, leaders: Iterable[int]) -> None:
        self._leaders = list(leaders)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)
        self.mib = 0.0

    def __enter__(self) -> MemoryPeak:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._look()

    def _run(self) -> None:
        while not self._stop.wait(self.INTERVAL_S):
            self._look()

    def _look(self) -> None:
        self.mib = max(self.mib, memory_mib(self._leaders))


def _stat(process: Path) -> list[str]:
    """The fields behind the name (which may hold spaces); empty when it has ended."""
    try:
        return (process / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return []


def _group(process: Path) -> int:
    fields = _stat(process)
    return int(fields[2]) if fields else 0


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
