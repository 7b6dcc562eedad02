"""The folder through which the processes of a forking pool share their counts.

prometheus-client's multiprocess mode: each process keeps its counts in files named by its pid, and
whoever is scraped adds them up. https://prometheus.github.io/client_python/multiprocess/
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from prometheus_client import values

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
KINDS = ("counter", "histogram")  #: of the files; we have no gauges in workers
RESERVED_BYTES = 256 * 1024  #: some 900 series; files of processes that have more grow unreserved
PREFIX = "clawdbot-metrics-"
_NEW_PREFIX = "clawdbot-new-metrics-"
_LOCK = "lock"


def share_counts() -> Path:
    """A folder of this start's own, so that a restart begins at 0; gone with the worker.

    Call it before any metric is made and before the pool forks. Folders whose workers were killed
    are removed: each is locked as long as one process of its worker lives.

    Raises:
        OSError: there is no place for it
    """
    parent = Path(tempfile.gettempdir())
    _remove_leftovers(parent)
    draft = Path(tempfile.mkdtemp(prefix=_NEW_PREFIX))
    _lock(draft)  # before it has the name by which others look for leftovers
    folder = draft.rename(parent / draft.name.replace(_NEW_PREFIX, PREFIX, 1))
    atexit.register(_remove, folder, os.getpid())
    reserve_counts(folder)
    os.environ[VARIABLE] = str(folder)
    # The library has asked for the variable long ago: Flower is a plug-in of every `celery` command
    # and imports it. It asks once more, as it must before the first metric.
    count_in_files()
    return folder


def reserve_counts(folder: Path) -> None:
    """Room for what this process counts; to be called before it does.

    Raises:
        OSError: there is no room
    """
    for kind in KINDS:
        reserve(folder / f"{kind}_{os.getpid()}.db")


def reserve(file: Path) -> None:
    """Make a file of counts without holes, if it isn't there.

    The library's own are full of holes, and mapped into memory: on a full disk, the first count
    that falls into one ends the process by SIGBUS.

    Raises:
        OSError: there is no room
    """
    if file.exists():  # a dead process had our number: the library counts on
        return
    draft = file.with_suffix(".new")  # by this name nobody reads it
    try:
        draft.write_bytes(bytes(RESERVED_BYTES))
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    draft.rename(file)


def count_in_files() -> None:
    """Metrics made from now on are in this process's files, and they alone.

    Otherwise the first count after a fork puts all that the parent had made into the child's.
    """
    values.ValueClass = values.get_value_class()


def count_apart() -> None:
    """Metrics made from now on are of this process alone, and in no file."""
    values.ValueClass = values.MutexValue


def _remove(folder: Path, pid: int) -> None:
    if os.getpid() == pid:  # not at the end of a child
        shutil.rmtree(folder, ignore_errors=True)


def _remove_leftovers(parent: Path) -> None:
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):  # another user's, or a worker lives
            os.close(_lock(folder))
            shutil.rmtree(folder, ignore_errors=True)


def _lock(folder: Path) -> int:
    """Held until the file is closed, by this process and all that it forks."""
    file = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise
    return file
