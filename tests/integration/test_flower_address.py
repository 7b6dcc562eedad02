"""`celery -A workers flower`, as Flower's documents have it, is open to this machine alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.processes import wait_until
from tests.integration.gateway import environ_for
from tests.integration.ingress_process import ROOT
from tests.redis_server import RedisServer, free_port
from workers.ops.doctor.own_address import is_listened_on, own_addresses

START_S = 60
#: Whoever listens on every address is reached there; 127.0.0.2 is Linux's own, without a network.
OTHERS = ("127.0.0.2", *own_addresses())


@contextmanager
def flower(folder: Path, redis_url: str, *arguments: str) -> Iterator[int]:
    """Yields its port, once it listens."""
    port = free_port()
    unset = ("FLOWER_ADDRESS", "FLOWER_BASIC_AUTH", "FLOWER_AUTH")
    environ = {name: value for name, value in os.environ.items() if name not in unset}
    with (folder / "flower.log").open("wb") as log:
        process = subprocess.Popen(
            [*_command(port), *arguments],
            cwd=folder,
            env={**environ, "PYTHONPATH": str(ROOT), **environ_for(redis_url)},
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: is_listened_on("127.0.0.1", port), START_S, "Flower listens")
        yield port
    finally:
        process.kill()
        process.wait()


def _command(port: int) -> Sequence[str]:
    return (sys.executable, "-m", "celery", "-A", "workers", "flower", f"--port={port}")


def test_without_a_password_nobody_else_reaches_it(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    with flower(tmp_path, redis_server.url) as port:
        assert [other for other in OTHERS if is_listened_on(other, port)] == []


def test_an_address_that_is_given_stands(tmp_path: Path, redis_server: RedisServer) -> None:
    with flower(tmp_path, redis_server.url, "--address=0.0.0.0") as port:
        others = [other for other in own_addresses() if ":" not in other]
        assert [other for other in others if not is_listened_on(other, port)] == []
