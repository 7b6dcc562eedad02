"""The counts of a forking pool's processes, added up; those of dead ones are kept in one file.

prometheus-client keeps the files of dead processes for ever, because a counter must not go back:
with `--max-tasks-per-child` they would never stop growing in number.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from workers.metrics_folder import KINDS, reserve

FOLD_INTERVAL_S = 10.0
_DEAD = "dead"

logger = logging.getLogger(__name__)


class ForkedCounts(Collector):
    """For the main process alone: it must know which of the others live. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sums = MultiProcessCollector(None, str(folder))
        self._lock = threading.Lock()

    def collect(self) -> Iterable[Metric]:
        with self._lock:
            return list(self._sums.collect())

    def keep_folding(self) -> None:
        """From now on, also if nobody scrapes."""
        threading.Thread(target=self._fold_for_ever, name="metrics-folding", daemon=True).start()

    def fold(self) -> int:
        """Add the counts of the dead to one file and remove theirs; how many files those were.

        Raises:
            OSError: there is no room for that file
        """
        with self._lock:
            return sum(self._fold(kind) for kind in KINDS)

    def _fold_for_ever(self) -> None:
        stop = threading.Event()
        while not stop.wait(FOLD_INTERVAL_S):
            try:
                self.fold()
            except Exception:  # a boundary: the next time it may do
                logger.exception("metrics.fold_failed")

    def _fold(self, kind: str) -> int:
        files = [file for file, pid in self._files(kind) if not _lives(pid)]
        if not files:
            return 0
        dead = self._folder / f"{kind}_{_DEAD}.db"
        reserve(dead)
        with closing(MmapedDict(str(dead))) as sums:
            for file in files:
                if file.stat().st_size:  # else its process ended when it had just been made
                    _add(file, sums)
                file.unlink()
        return len(files)

    def _files(self, kind: str) -> Iterator[tuple[Path, int]]:
        for file in self._folder.glob(f"{kind}_*.db"):
            pid = file.stem.rpartition("_")[2]
            if pid != _DEAD:
                yield file, int(pid)


def _add(file: Path, sums: MmapedDict) -> None:
    # All of its counts or none: what can't be read is tried again.
    for key, value, _, _ in list(MmapedDict.read_all_values_from_file(str(file))):
        sums.write_value(key, sums.read_value(key)[0] + value, 0.0)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # the number is another user's process by now
        return False
    return True
