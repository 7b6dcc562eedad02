"""What a process of ours asks of the operating system when it starts."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator, Sequence
from typing import NoReturn

from shared import audit, logs
from shared.config.groups import Log

OPEN_FILES = 65_536


def raise_open_files_limit() -> None:
    """Allow as many sockets as the hard limit does; the usual soft limit of 1024 is too few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def start_anew() -> NoReturn:
    """Run this very command again in this process: what it was built of is out of date.

    Celery has obeyed its `--uid` and `--gid` by then, and may not do so twice.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    arguments = sys.orig_argv[1:] if os.geteuid() == 0 else _without_user(sys.orig_argv[1:])
    os.execv(sys.executable, [sys.executable, *arguments])


def _without_user(arguments: Sequence[str]) -> Iterator[str]:
    is_value = False
    for argument in arguments:
        if not is_value and not argument.startswith(("--uid", "--gid")):
            yield argument
        is_value = argument in ("--uid", "--gid")


def open_logs_or_exit(service: str, log: Log) -> None:
    """Where this process logs from now on; on a folder it can't use, a line and exit code 1."""
    try:
        logs.configure(service, level=log.level, **log.files)
        audit.configure(service, **log.files)
    except OSError as error:
        print(f"CLAWDBOT_LOG_DIR={log.dir}: {error.strerror or error}", file=sys.stderr)
        raise SystemExit(1) from error
