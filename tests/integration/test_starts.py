"""A start that can't go on names the setting that is to blame, in one line, and ends with 1."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.gateway import environ_for
from tests.integration.ingress_process import ROOT
from tests.redis_server import RedisServer

INGRESS = ["-m", "ingress"]
WORKER = ["-m", "celery", "-A", "workers", "worker", "-Q", "push", "-P", "solo"]


def fault_of(program: list[str], folder: Path, redis_url: str, **changes: str) -> str:
    """What is on stderr when it has ended."""
    done = subprocess.run(
        [sys.executable, *program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ_for(redis_url, **changes)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    return done.stderr


@pytest.mark.parametrize("program", [INGRESS, WORKER], ids=["ingress", "worker"])
def test_a_log_folder_that_can_not_be_used(
    program: list[str], tmp_path: Path, redis_server: RedisServer
) -> None:
    (tmp_path / "file").touch()

    said = fault_of(program, tmp_path, redis_server.url, LOG_DIR="file/logs")

    assert said.splitlines()[-1] == "CLAWDBOT_LOG_DIR=file/logs: Not a directory"
    assert "Traceback" not in said


def test_a_port_that_is_taken(tmp_path: Path, redis_server: RedisServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        said = fault_of(INGRESS, tmp_path, redis_server.url, PORT=str(port), HOST="127.0.0.1")

    assert said.startswith(f"CLAWDBOT_PORT={port}: ")
    assert said.count("\n") == 1
