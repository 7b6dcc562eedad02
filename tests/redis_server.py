"""A real Redis for tests, on a free loopback port, that can be killed and started again."""

from __future__ import annotations

import itertools
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import redis

from compose.local import redis_server

START_TIMEOUT_S = 20
PORTS = range(20_000, 32_000)
PARTS = 8  #: at least as many as the processes that share the tests out


def _shuffled() -> Iterator[int]:
    """For ever. Of several processes that share the tests out, each has a part of its own."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    mine = list(PORTS[worker % PARTS :: PARTS])
    secrets.SystemRandom().shuffle(mine)
    return itertools.cycle(mine)


_ports = _shuffled()


def free_port() -> int:
    """A loopback port that nobody listens on, nor was told of lately: many are asked for at once.

    Not one of those that the kernel gives away by itself: several stacks run at once, and another's
    connection could be given it before ours is listened on.
    """
    while True:
        port = next(_ports)
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


class RedisServer:
    """`redis-server` with `appendfsync always`, as production has it."""

    def __init__(self, directory: Path, *options: str, password: str = "") -> None:
        self.directory = directory
        self.port = free_port()
        self._login = f":{password}@" if password else ""
        self._options = [*options, *(["--requirepass", password] if password else [])]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://{self._login}127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, decode_responses=True)

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop(signal.SIGKILL)

    def start(self) -> None:
        """Start on the same port and data as before, and wait until it answers."""
        command = [
            *(str(redis_server.find_server()), "--bind", "127.0.0.1", "--port", str(self.port)),
            *("--dir", str(self.directory), "--save", "", "--appendonly", "yes"),
            *("--appendfsync", "always", "--maxmemory-policy", "noeviction"),
            *self._options,
        ]
        with (self.directory / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + START_TIMEOUT_S
        with self.client() as client:
            while time.monotonic() < deadline:
                try:
                    client.ping()
                    return
                except redis.RedisError:
                    time.sleep(0.02)
        self.stop(signal.SIGKILL)
        raise AssertionError("redis-server did not answer")

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the server's process."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the server by a signal and wait for its end."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(START_TIMEOUT_S)
