"""Where the stack's unix sockets stand: in .run, or in a short folder when the path is too long."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from pathlib import Path

from compose.local.problems import StackError

MAX_PATH_BYTES = 103  #: macOS allows 104 with the closing NUL, Linux 108
#: supervisord binds `<name>.<pid>` first and then gives it its name.
_LONGEST_NAME = "supervisor.sock.4194304"
_PREFIX = "clawdbot-"


def make_folder(run: Path) -> Path:
    """The folder for the sockets, made if need be; readable by its owner only."""
    if fits(run) and _takes_sockets(run):
        return run
    for parent in (tempfile.gettempdir(), "/tmp"):
        if not fits(Path(parent, f"{_PREFIX}12345678")):
            continue
        try:
            return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        except OSError:
            continue
    raise StackError("no folder for sockets: set TMPDIR to a folder with a short path")


def remove_folder(folder: Path, run: Path) -> None:
    """Remove what `make_folder` made; `run` itself stays."""
    if folder != run and folder.name.startswith(_PREFIX):
        shutil.rmtree(folder, ignore_errors=True)


def fits(folder: Path) -> bool:
    return len(os.fsencode(folder / _LONGEST_NAME)) <= MAX_PATH_BYTES


def _takes_sockets(folder: Path) -> bool:
    """Some shared folders of virtual machines refuse sockets, or links to them."""
    probe, link = folder / f"probe.{os.getpid()}", folder / f"link.{os.getpid()}"
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(probe))
            os.link(probe, link)
    except OSError:
        return False
    finally:
        probe.unlink(missing_ok=True)
        link.unlink(missing_ok=True)
    return True
