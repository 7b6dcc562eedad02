"""The audit trail: who was refused, and what operators did.

Two logs beside the others, in the shape of their lines: `auth.log` (refused calls) and `audit.log`
(operators' actions) in the log folder. Without a folder both go where the rest goes; `log` in their
metadata tells them apart. LOG_LEVEL doesn't silence them.

`record` is for whoever changes something on an operator's behalf: keys, settings, dead letters,
what is remembered of people. An action is also handed to whoever `kept_by` names, so that a
report can be made on any host. Facts are names, numbers and ids: never a secret, never text.
"""

from __future__ import annotations

import logging
import os
import pwd
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from shared.log_files import SharedFile
from shared.logs import LineFormatter, log

REFUSALS: Final = "auth"
ACTIONS: Final = "audit"


@dataclass(frozen=True, slots=True)
class Action:
    """Something an operator did. name: as a log event. user: of the operating system."""

    name: str
    user: str
    host: str
    facts: Mapping[str, Any]


Keep = Callable[[Action], None]

_keep: ContextVar[Keep | None] = ContextVar("keep", default=None)


def configure(
    service: str, *, directory: Path | None = None, max_bytes: int = 0, backups: int = 1
) -> None:
    """Where this process writes the two logs; to be called after `logs.configure`, if at all.

    A file is opened with its first line. Replaces what was configured before.
    """
    for name in (REFUSALS, ACTIONS):
        logger = _logger(name)
        for handler in [*logger.handlers]:
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(logging.INFO)
        logger.propagate = directory is None
        if directory is not None:
            path = directory / f"{name}.log"
            file = SharedFile(path, max_bytes=max_bytes, backups=backups, delay=True)
            file.setFormatter(LineFormatter(service))
            logger.addHandler(file)


def record(action: str, /, **facts: Any) -> None:
    """Note what was just done. action: `<noun>.<past verb>`, as `key.rotated`."""
    done = Action(action, _user(), os.uname().nodename, facts)
    write(ACTIONS, action, user=done.user, host=done.host, **facts)
    if (keep := _keep.get()) is not None:
        keep(done)


@contextmanager
def kept_by(keep: Keep) -> Iterator[None]:
    """What is recorded inside, in this thread or task, is handed to `keep`, too."""
    token = _keep.set(keep)
    try:
        yield
    finally:
        _keep.reset(token)


def write(name: str, event: str, /, *, level: int = logging.INFO, **facts: Any) -> None:
    """One line into `REFUSALS` or `ACTIONS`, and nowhere else."""
    log(_logger(name), level, event, log=name, **facts)


def _logger(name: str) -> logging.Logger:
    return logging.getLogger(f"{__name__}.{name}")


def _user() -> str:
    """Who logged in here, also behind sudo; else whom the process belongs to."""
    try:
        return os.getlogin()
    except OSError:  # no terminal: a container, a timer
        pass
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
