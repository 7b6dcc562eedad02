"""`python -m ingress` as it is started in production, for tests that must not know its inside."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


class IngressProcess:
    """A running one, its log in a file."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self.port = int(environ["CLAWDBOT_PORT"])
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ingress"],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
                stdout=log,
                stderr=log,
            )
        self._await_listening()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _await_listening(self) -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.02)
        self._process.kill()
        self._process.wait()
        raise AssertionError(self.log.read_text("utf-8"))

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self._process.terminate()
        return self._process.wait(20)


def assert_calm(log: str) -> None:
    """Every line is JSON, and none tells of a bug or shows a traceback."""
    for line in log.splitlines():
        record = json.loads(line)
        assert record["message"] != "webhook.bug", line
        assert record["level"] in ("DEBUG", "INFO", "WARNING"), line
        assert "Traceback" not in line
