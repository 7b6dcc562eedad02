"""What a process of ours asks of the operating system when it starts."""

from __future__ import annotations

import os
import resource
import sys
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
    """Run this very command again in this process: what it was built of is out of date."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def open_logs_or_exit(service: str, log: Log) -> None:
    """Where this process logs from now on; on a folder it can't use, a line and exit code 1."""
    try:
        logs.configure(service, level=log.level, **log.files)
        audit.configure(service, **log.files)
    except OSError as error:
        print(f"CLAWDBOT_LOG_DIR={log.dir}: {error.strerror or error}", file=sys.stderr)
        raise SystemExit(1) from error
