"""`clawdbot …` by somebody who looks on: what it writes goes to a terminal that is one."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from tests.integration.ingress_process import ROOT

TIMEOUT_S = 60
END = b"\0"  #: a terminal has no end of its own that all systems agree on


def on_terminal(environ: Mapping[str, str], *arguments: str) -> str:
    """All that a command that works shows there, in its order."""
    ours, theirs = pty.openpty()
    with ThreadPoolExecutor(1) as pool:
        shown = pool.submit(_read_all, ours)
        try:
            done = subprocess.run(
                [sys.executable, "-c", "from shared.cli import main; main()", *arguments],
                env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
                stdin=subprocess.DEVNULL,
                stdout=theirs,
                stderr=theirs,
                timeout=TIMEOUT_S,
                check=False,
            )
        finally:
            os.write(theirs, END)
            text = shown.result(TIMEOUT_S)
            os.close(theirs)
            os.close(ours)
    assert done.returncode == 0, text
    return text


def _read_all(terminal: int) -> str:
    read = b""
    while not read.endswith(END):
        read += os.read(terminal, 65_536)
    return read.removesuffix(END).decode()
