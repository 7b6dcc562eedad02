"""The things compared: a version of the gateway, and the obvious build."""

from __future__ import annotations

import sys
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from shared.state import keys
from tests.bench.load import shoot
from tests.bench.world import ROOT, START_TIMEOUT_S, World, is_open, new_conversations
from tests.e2e.processes import Process, wait_until
from tests.redis_server import free_port

SETTLE_TIMEOUT_S = 60
WARM_UP = 100  #: messages before every measurement: connections, tokens, imports
QUIET = ("--without-gossip", "--without-mingle")


@dataclass(frozen=True, slots=True)
class Setup:
    """workers: how many of each stage. slots: of each worker (`-c`)."""

    pool: str
    slots: int
    workers: int = 1
    flower: bool = False

    def __str__(self) -> str:
        more = ", Flower" if self.flower else ""
        return f"{self.pool} -c {self.slots} ×{self.workers}{more}"


class Build(Protocol):
    """Something that takes webhook calls and answers them."""

    name: str
    port: int

    def start(self, setup: Setup) -> None: ...
    def stop(self) -> None: ...
    def programs(self) -> dict[str, list[int]]:
        """The leaders of its process groups, by program."""

    def is_settled(self) -> bool:
        """Nothing is left to do."""


class Gateway:
    """Ours, from the sources in `root`. settings: environment beside the usual."""

    def __init__(
        self, world: World, *, root: Path = ROOT, name: str = "gateway", **settings: str
    ) -> None:
        self.name = name
        self.port = free_port()
        self._world = world
        self._root = root
        self.environment = {
            **world.credentials,
            "CLAWDBOT_REDIS__URL": world.redis_server.url,
            "CLAWDBOT_HOST": "127.0.0.1",
            "CLAWDBOT_PORT": str(self.port),
            "CLAWDBOT_SECURITY__QPS": "1000000",
            "CLAWDBOT_ASYNC_PROCESSING__QUEUE_CAPACITY": "1000000",
            **settings,
        }
        self._running: dict[str, list[Process]] = {}

    def start_ingress(self) -> None:
        self._start("ingress", [sys.executable, "-m", "ingress"])
        wait_until(lambda: is_open(self.port), START_TIMEOUT_S, f"{self.name}: the ingress listens")

    def start(self, setup: Setup) -> None:
        """Start everything, on an empty Redis."""
        self._world.redis.flushall()
        self.start_ingress()
        self.start_workers(setup)

    def start_workers(self, setup: Setup) -> None:
        """Start what a setup names beside the ingress, which runs; wait until all of it lives."""
        self._world.redis.delete(keys.WORKERS)
        for number in range(setup.workers):
            for stage in ("process", "push"):
                self._start(
                    stage,
                    self._celery(
                        "worker",
                        "-Q",
                        stage,
                        "-P",
                        setup.pool,
                        "-c",
                        str(setup.slots),
                        "-n",
                        f"{stage}{number}@%h",
                        *QUIET,
                    ),
                )
        if setup.flower:
            port = free_port()
            self._start("flower", self._celery("flower", "--address=127.0.0.1", f"--port={port}"))
            wait_until(lambda: is_open(port), START_TIMEOUT_S, "Flower listens")
        self._await_workers(setup)
        if setup.flower:
            self._enable_events()

    def _await_workers(self, setup: Setup) -> None:
        workers = 2 * setup.workers
        wait_until(
            lambda: self._world.redis.hlen(keys.WORKERS) == workers and self._is_ready(),
            START_TIMEOUT_S,
            f"{self.name}: {workers} workers live",
        )

    def _enable_events(self) -> None:
        """As Flower asks for them, too, but some seconds later: in the midst of a measurement."""
        self._world.run(self._celery("control", "enable_events"), self.environment, self._root)

    def stop(self) -> None:
        """End every program."""
        for processes in self._running.values():
            for process in processes:
                process.end()
        self._running = {}

    def programs(self) -> dict[str, list[int]]:
        return {name: [p.pid for p in processes] for name, processes in self._running.items()}

    def is_settled(self) -> bool:
        return not self._world.redis.zcard(keys.DUE)

    def _celery(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "celery", "-A", "workers", *arguments]

    def _start(self, program: str, command: list[str]) -> None:
        label = f"{self.name}-{program}"
        process = self._world.process(label, command, self.environment, self._root)
        process.start()
        self._running.setdefault(program, []).append(process)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ready?deep=1", timeout=5):
                return True
        except OSError:
            return False


class Obvious:
    """The obvious build with Celery's default settings; a setup doesn't change it."""

    name = "obvious build"

    def __init__(self, world: World) -> None:
        self.port = free_port()
        self._world = world
        self._environment: Mapping[str, str] = {
            **world.credentials,
            "OBVIOUS_REDIS_URL": world.redis_server.url,
            "CLAWDBOT_PORT": str(self.port),
        }
        self._running: dict[str, Process] = {}

    def start(self, setup: Setup) -> None:
        self._world.redis.flushall()
        package = "tests.bench.obvious"
        commands = {
            "ingress": ["-m", f"{package}.app"],
            "worker": ["-m", "celery", "-A", f"{package}.tasks", "worker"],
        }
        for name, arguments in commands.items():
            command = [sys.executable, *arguments]
            self._running[name] = self._world.process(f"obvious-{name}", command, self._environment)
            self._running[name].start()
        wait_until(lambda: is_open(self.port), START_TIMEOUT_S, "the obvious build listens")

    def stop(self) -> None:
        for process in self._running.values():
            process.end()
        self._running = {}

    def programs(self) -> dict[str, list[int]]:
        return {name: [process.pid] for name, process in self._running.items()}

    def is_settled(self) -> bool:
        return not self._world.redis.exists("celery", "unacked")


def warm_up(world: World, build: Build) -> None:
    """Some messages through everything; afterwards nothing is left to do."""
    world.set_latency(0)
    before = world.replies()
    shoot(build.port, world.requests(new_conversations("warm"), WARM_UP), connections=16)
    world.replies(before + WARM_UP)
    settle(build)


def settle(build: Build) -> None:
    """Wait until the last message is done with."""
    wait_until(build.is_settled, SETTLE_TIMEOUT_S, f"{build.name}: nothing is left to do")
    time.sleep(0.1)  # what is written after the last settling belongs to it, too
