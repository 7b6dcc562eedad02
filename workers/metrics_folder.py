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
    os.environ[VARIABLE] = str(folder)
    # The library has asked for the variable long ago: Flower is a plug-in of every `celery` command
    # and imports it. It asks once more, as it must before the first metric.
    values.ValueClass = values.get_value_class()
    atexit.register(_remove, folder, os.getpid())
    return folder


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
