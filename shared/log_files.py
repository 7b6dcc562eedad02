"""A log file that several processes write, turned over when it is full, by any of them.

A line is one `write` at the file's end, so lines of several processes never mix. Whoever finds the
file full renames it; the others see at their next line that the name leads elsewhere and follow.
No lock is taken but for the renaming, and nobody waits for it: a process that was stopped in the
middle of it must not hold up the ingress. (concurrent-log-handler locks at every line.)
"""

from __future__ import annotations

import fcntl
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import TextIO


class Unhindered(logging.StreamHandler[TextIO]):
    """What can't be written must not stop the work that it tells of: stderr hears of it, once.

    Nothing of the line is told there (logging's own way prints its arguments, which nobody has
    scrubbed), and nothing is logged: that could not be written either, and so on.
    """

    _is_hindered = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        try:
            super().emit(record)
        except OSError as error:  # a file that can't be opened
            self._complain(error)

    def flush(self) -> None:
        """logging calls it after each line, the ingress once a turn, where nobody catches."""
        try:
            super().flush()
        except OSError as error:
            self._complain(error)
        else:
            self._is_hindered = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """logging calls it where it caught a fault of its own."""
        self._complain(sys.exc_info()[1])

    def _complain(self, error: BaseException | None) -> None:
        """Once, until something is written again."""
        if self._is_hindered or sys.stderr is None:
            return
        self._is_hindered = True
        name = getattr(self, "baseFilename", None) or getattr(self.stream, "name", "the log")
        what = error.strerror if isinstance(error, OSError) else type(error).__name__
        with suppress(OSError):
            sys.stderr.write(f"{name} can't be written: {what}\n")


class SharedFile(Unhindered, WatchedFileHandler):
    """`file`, and `file.1` … `file.<backups>`, the newest first. logrotate may move it, too.

    max_bytes: a file of this size is turned over; 0: never. delay: opened with the first line.
    """

    def __init__(self, file: Path, *, max_bytes: int, backups: int, delay: bool = False) -> None:
        super().__init__(file, encoding="utf-8", errors="backslashreplace", delay=delay)
        self._max_bytes = max_bytes
        self._backups = backups

    def reopenIfNeeded(self) -> None:  # noqa: N802
        """logging calls it before every line."""
        super().reopenIfNeeded()
        if self._is_full():
            with suppress(OSError):  # it goes on growing
                self._turn_over()
            super().reopenIfNeeded()

    def _open(self) -> TextIOWrapper:
        Path(self.baseFilename).parent.mkdir(parents=True, exist_ok=True)
        return super()._open()

    def _is_full(self) -> bool:
        if not self._max_bytes or self.stream is None:
            return False
        return os.fstat(self.stream.fileno()).st_size >= self._max_bytes

    def _turn_over(self) -> None:
        file = Path(self.baseFilename)
        with _locked(file.parent) as is_ours:
            if not is_ours or not self._is_named(file):
                return  # another process is at it, or was
            for number in range(self._backups - 1, 0, -1):
                with suppress(FileNotFoundError):
                    _numbered(file, number).replace(_numbered(file, number + 1))
            file.replace(_numbered(file, 1))

    def _is_named(self, file: Path) -> bool:
        """Whether `file` still leads to what is open here."""
        if self.stream is None:
            return False
        try:
            return os.path.samestat(file.stat(), os.fstat(self.stream.fileno()))
        except FileNotFoundError:
            return False


def _numbered(file: Path, number: int) -> Path:
    return file.with_name(f"{file.name}.{number}")


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Whether this process alone turns files of the folder over, until the end of the block."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(handle)
