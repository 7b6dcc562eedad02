"""What a process of ours asks of the operating system."""

from __future__ import annotations

import resource

OPEN_FILES = 65_536


def raise_open_files_limit() -> None:
    """Allow as many sockets as the hard limit does; the usual soft limit of 1024 is too few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
