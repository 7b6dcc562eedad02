"""What both builds stand on: one Redis as production has it, one upstream, signed requests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from shared.process import raise_open_files_limit
from tests.bench.load import wire
from tests.e2e.processes import Process, wait_until
from tests.redis_server import RedisServer, free_port
from tests.simulator import credentials
from tests.simulator.events import Message, build_request, new_message_id

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 60
ANSWERS_TIMEOUT_S = 120
TEXT = "Hello, what is the weather like tomorrow in Hangzhou, and do I need an umbrella?"


class World:
    """`with World(directory) as world`."""

    def __init__(self, directory: Path) -> None:
        raise_open_files_limit()
        (directory / "redis").mkdir(parents=True)
        self.directory = directory
        self.redis_server = RedisServer(directory / "redis", "--auto-aof-rewrite-percentage", "0")
        self.redis = self.redis_server.client()
        self.upstream_port = free_port()
        self.upstream_url = f"http://127.0.0.1:{self.upstream_port}"
        self.credentials = credentials.complete({}, ("feishu", "model"), self.upstream_url)
        command = [sys.executable, "-m", "tests.bench.upstream", "--port", str(self.upstream_port)]
        self.upstream = self.process("upstream", command, {})

    def __enter__(self) -> World:
        self.redis_server.start()
        try:
            self.upstream.start()
            wait_until(lambda: is_open(self.upstream_port), START_TIMEOUT_S, "the upstream listens")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def process(
        self, name: str, command: list[str], environment: Mapping[str, str], root: Path = ROOT
    ) -> Process:
        """A program of the version whose sources are in `root`; not started."""
        values = _complete(environment, root)
        return Process(name, command, directory=self.directory, environment=values)

    def run(self, command: list[str], environment: Mapping[str, str], root: Path = ROOT) -> None:
        """A command of that version, to its end. Raises: subprocess.CalledProcessError."""
        values = _complete(environment, root)
        subprocess.run(command, env=values, cwd=self.directory, check=True, capture_output=True)

    @property
    def redis_pid(self) -> int:
        return int(self.redis.info("server")["process_id"])

    def set_latency(self, seconds: float) -> None:
        """How long the model takes to its first token."""
        self._ask(f"/control/latency?s={seconds}", b"")

    def replies(self, reach: int = 0) -> int:
        """How many replies arrived since the start; waits until there are `reach`."""
        return int(self._ask(f"/control/replies?reach={reach}")["replies"])

    def requests(self, conversations: Iterator[str], count: int) -> list[bytes]:
        """Signed requests of the default Feishu bot."""
        return [self.request(next(conversations), self.credentials) for _ in range(count)]

    def request(self, conversation: str, bot: Mapping[str, str], *, path: str = "") -> bytes:
        """One signed request. bot: its credentials."""
        message = Message(
            platform="feishu",
            conversation=conversation,
            text=TEXT,
            created_ms=int(time.time() * 1000),
            message_id=new_message_id("feishu"),
        )
        return wire(build_request(bot, message, "", now=time.time()), path=path)

    def _end(self) -> None:
        self.upstream.end()
        self.redis.close()
        self.redis_server.stop()

    def _ask(self, path: str, body: bytes | None = None) -> Any:
        url = self.upstream_url + path
        with urllib.request.urlopen(url, body, timeout=ANSWERS_TIMEOUT_S) as answer:
            return json.load(answer)


def new_conversations(prefix: str) -> Iterator[str]:
    """A conversation for every message, so that nothing waits for its turn."""
    start = time.time_ns()
    number = 0
    while True:
        number += 1
        yield f"oc_{prefix}_{start:x}_{number}"


def is_open(port: int) -> bool:
    """Whether somebody answers HTTP there, with whatever status."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def _complete(environment: Mapping[str, str], root: Path) -> dict[str, str]:
    """None of the settings of whoever runs the bench."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("CLAWDBOT_", "LOG_"))}
    return {**inherited, "PYTHONPATH": str(root), **environment}
