"""The whole gateway as real processes on free ports, with the simulator around it."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from shared.state import keys
from shared.state.keys import LaneKeys
from tests.e2e.processes import Process, Supervisor, wait_until
from tests.redis_server import RedisServer, free_port
from tests.simulator import credentials
from tests.simulator.client import SignedClient

ROOT = Path(__file__).resolve().parents[2]
READY_TIMEOUT_S = 40
CLI_TIMEOUT_S = 30

#: The start of every session in a session webhook of the simulator: its first field, encoded.
SESSION_START = base64.urlsafe_b64encode(b'["session",')[:14].decode()
_SECRET_NAMES = ("APP_SECRET", "VERIFICATION_TOKEN", "ENCRYPT_KEY", "AK_SECRET")


@dataclass(frozen=True, slots=True)
class Worker:
    """How a Celery worker is started: `celery -A workers worker -Q … -P … -c … -n <name>@%h`.

    app, program: others than these stand between a test and the real ones (`tests/e2e/broken`).
    """

    name: str
    queues: str
    pool: str = "threads"
    concurrency: int = 16
    app: str = "workers"
    program: str = "celery"

    def command(self) -> list[str]:
        return [
            *(sys.executable, "-m", self.program, "-A", self.app, "worker"),
            *("-Q", self.queues, "-P", self.pool, "-c", str(self.concurrency)),
            *("-n", f"{self.name}@%h", "--without-gossip", "--without-mingle"),
        ]


PROCESS = Worker("process", "process")
PUSH = Worker("push", "push")


class Stack:
    """Redis, simulator, ingress and workers; `with Stack(directory) as stack`.

    settings: environment beside what the simulator gives; `{simulator}` in it is its address.
    more_bots: two named bots, played by a second simulator: `sales` (Feishu) and `careful`
        (DingTalk, `uncertain_send: hold`); `more_url` and `more_credentials` are theirs.
    keep_alive: what dies is started again; Redis isn't.
    backup_model: the simulator's second model is one of ours, too, named `backup`.
    redis_password: what Redis wants to hear; none as a rule.
    """

    def __init__(
        self,
        directory: Path,
        *,
        workers: Sequence[Worker] = (PROCESS, PUSH),
        settings: Mapping[str, str] | None = None,
        more_bots: bool = False,
        keep_alive: bool = False,
        backup_model: bool = False,
        redis_password: str = "",
    ) -> None:
        (directory / "redis").mkdir(parents=True)
        self.directory = directory
        self.redis_server = RedisServer(directory / "redis", password=redis_password)
        self.redis = self.redis_server.client()
        self.ingress_url = f"http://127.0.0.1:{free_port()}"
        self.simulator_url, self.credentials = self._simulated("simulator", credentials.PARTS)
        self.more_url, self.more_credentials = "", dict[str, str]()
        if more_bots:
            parts = ("dingtalk", "feishu")
            self.more_url, self.more_credentials = self._simulated("more", parts)
        backup = self._backup_model() if backup_model else {}
        self.environment = self._environment({**backup, **(settings or {})})
        self.processes: dict[str, Process] = {}
        self._add_processes(workers)
        self._supervisor = Supervisor(list(self.processes.values())) if keep_alive else None

    def __enter__(self) -> Stack:
        self.redis_server.start()
        try:
            for process in self.processes.values():
                process.start()
            self.wait_until_ready()
        except BaseException:
            self._end()
            raise
        if self._supervisor:
            self._supervisor.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._supervisor:
            self._supervisor.stop()
        self._end()

    def __getitem__(self, name: str) -> Process:
        return self.processes[name]

    def add_worker(self, worker: Worker) -> Process:
        """One more worker, started at once; it is not kept alive."""
        return self.add_program(worker.name, worker.command())

    def add_program(self, name: str, command: Sequence[str]) -> Process:
        """As `add_worker`, for anything else that runs beside the stack."""
        process = self._process(name, command)
        self.processes[name] = process
        process.start()
        return process

    def wait_until_ready(self) -> None:
        """Wait until the ingress answers, and workers of both queues live.

        Raises:
            AssertionError: they don't; with the logs' ends.
        """
        try:
            wait_until(self._is_ready, READY_TIMEOUT_S, "/ready?deep=1 answers 200")
        except AssertionError as error:
            logs = "\n".join(f"--- {name}\n{tail}" for name, tail in self.log_tails())
            raise AssertionError(f"{error}\n{logs}") from None

    def client(self, *, connections: int = 100) -> SignedClient:
        """A client for the platforms' own bots."""
        return SignedClient(
            self.credentials, self.ingress_url, self.simulator_url, connections=connections
        )

    def ready(self) -> tuple[int, dict[str, Any]]:
        """Status and body of `/ready?deep=1`; status 0 when nobody answers."""
        try:
            with urllib.request.urlopen(f"{self.ingress_url}/ready?deep=1", timeout=5) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)
        except OSError:
            return 0, {}

    def clawdbot(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the console script as an operator does."""
        return subprocess.run(
            [sys.executable, "-c", "from shared.cli import main; main()", *arguments],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=CLI_TIMEOUT_S,
            check=False,
        )

    def census(self) -> dict[str, Any]:
        """`clawdbot queue --json`: the facts of every bot, by its name."""
        done = self.clawdbot("queue", "--json")
        assert done.stdout, done.stderr
        facts: dict[str, Any] = json.loads(done.stdout)["bots"]
        return facts

    def unfinished_lanes(self) -> int:
        """Lanes that somebody has to look at; 0: everything that was accepted is settled."""
        return int(self.redis.zcard(keys.DUE))

    def in_flight(self) -> int:
        """Events in all lanes, counted by walking them."""
        return self.load()[0]

    def load(self) -> tuple[int, int]:
        """Events in flight, and conversations they are in; counted by walking the lanes."""
        lanes = self.redis.zrange(keys.DUE, 0, -1)
        with self.redis.pipeline() as pipe:
            for lane in lanes:
                pipe.llen(lane)
            events = sum(pipe.execute())
        return events, len({LaneKeys(lane).conversation for lane in lanes})

    def crash_redis(self) -> None:
        self.redis_server.stop(signal.SIGKILL)

    def log_tails(self) -> list[tuple[str, str]]:
        """The end of every log, for a failure's report."""
        return [(f"{name}.log", process.tail()) for name, process in self.processes.items()]

    def log_text(self) -> str:
        """Everything that the gateway's own processes wrote, whole."""
        ours = (p for name, p in self.processes.items() if name not in ("simulator", "more"))
        return "\n".join(process.log.read_text("utf-8", "replace") for process in ours)

    def secrets(self) -> set[str]:
        """The credentials that no log line may hold, and how every session webhook begins."""
        known = {**self.credentials, **{f"MORE_{k}": v for k, v in self.more_credentials.items()}}
        values = {value for name, value in known.items() if name.endswith(_SECRET_NAMES)}
        return values | {SESSION_START}

    def _is_ready(self) -> bool:
        ended = [name for name, process in self.processes.items() if not process.is_running]
        assert not ended, f"ended while starting: {', '.join(ended)}"
        return self.ready()[0] == 200

    def _end(self) -> None:
        for process in self.processes.values():
            process.end()
        self.redis.close()
        self.redis_server.stop(signal.SIGKILL)

    def _simulated(self, name: str, parts: tuple[str, ...]) -> tuple[str, dict[str, str]]:
        """Address and credentials of a simulator, made before it runs: all can start at once."""
        url = f"http://127.0.0.1:{free_port()}"
        values = credentials.complete({}, parts, url)
        credentials.write_env(self.directory / f"{name}.env", values)
        return url, values

    def _backup_model(self) -> dict[str, str]:
        return {
            "CLAWDBOT_MODELS__BACKUP__ENDPOINT": f"{self.simulator_url}/backup/v1",
            "CLAWDBOT_MODELS__BACKUP__NAME": self.credentials[credentials.MODEL_NAME],
            "CLAWDBOT_MODELS__BACKUP__AK_SECRET": self.credentials[credentials.MODEL_KEY],
        }

    def _environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        ours = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("CLAWDBOT_", "LOG_"))
        }
        return {
            **ours,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            **self.credentials,
            **_named_bots(self.more_credentials),
            "CLAWDBOT_REDIS__URL": self.redis_server.url,
            "CLAWDBOT_HOST": "127.0.0.1",
            "CLAWDBOT_PORT": self.ingress_url.rpartition(":")[2],
            **{n: v.replace("{simulator}", self.simulator_url) for n, v in settings.items()},
        }

    def _add_processes(self, workers: Sequence[Worker]) -> None:
        commands = {"simulator": self._simulator_command("simulator", self.simulator_url)}
        if self.more_url:
            command = self._simulator_command("more", self.more_url)
            commands["more"] = [*command, "--only", "dingtalk,feishu"]
        commands["ingress"] = [sys.executable, "-m", "ingress"]
        commands |= {worker.name: worker.command() for worker in workers}
        self.processes = {name: self._process(name, c) for name, c in commands.items()}

    def _simulator_command(self, name: str, url: str) -> list[str]:
        return [
            *(sys.executable, "-m", "tests.simulator", "--port", url.rpartition(":")[2]),
            *("--ingress", self.ingress_url, "--env-out", str(self.directory / f"{name}.env")),
        ]

    def _process(self, name: str, command: Sequence[str]) -> Process:
        return Process(name, command, directory=self.directory, environment=self.environment)


def with_concurrency(worker: Worker, pool: str, concurrency: int) -> Worker:
    """The same worker on another pool."""
    return replace(worker, pool=pool, concurrency=concurrency)


def _named_bots(values: Mapping[str, str]) -> dict[str, str]:
    """The second simulator's credentials as those of two named bots."""
    if not values:
        return {}
    blocks = {"CLAWDBOT_DINGTALK__": "CAREFUL", "CLAWDBOT_FEISHU__": "SALES"}
    settings = {
        "CLAWDBOT_BOTS__CAREFUL__PLATFORM": "dingtalk",
        "CLAWDBOT_BOTS__CAREFUL__UNCERTAIN_SEND": "hold",
        "CLAWDBOT_BOTS__SALES__PLATFORM": "feishu",
    }
    for name, value in values.items():
        for block, bot in blocks.items():
            if name.startswith(block):
                settings[f"CLAWDBOT_BOTS__{bot}__{name.removeprefix(block)}"] = value
    return settings
