"""The stack of compose.yaml under a project name and ports of its own, driven from outside."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
COMPOSE_FILE = ROOT / "compose" / "compose.yaml"
NO_SETTINGS = Path(os.devnull)
UP_TIMEOUT_S = 600  #: the first build downloads the packages
ANSWER_TIMEOUT_S = 60.0

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def engine_problem() -> str:
    """Why no container can be started here; empty when one can."""
    if shutil.which("docker") is None:
        return "needs a Docker engine, and there is no docker command"
    for command in (["docker", "info"], ["docker", "compose", "version"]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines() or ["nothing"]
            return f"needs a Docker engine; `{' '.join(command)}` says: {said[-1]}"
    return ""


def wait_for(holds: Callable[[], bool], what: str, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s:g} s"
        time.sleep(0.2)


class ComposeStack:
    """`env_file` stands in the place of the developer's own .env."""

    def __init__(self, project: str, env_file: Path = NO_SETTINGS) -> None:
        self.project = project
        ingress, simulator, flower = _free_ports(3)
        self.ingress = f"http://127.0.0.1:{ingress}"
        self.simulator = f"http://127.0.0.1:{simulator}"
        self.flower = f"http://127.0.0.1:{flower}"
        self._environ = os.environ | {
            "COMPOSE_PROJECT_NAME": project,
            "CLAWDBOT_PORT": str(ingress),
            "UP_SIMULATOR_PORT": str(simulator),
            "UP_FLOWER_PORT": str(flower),
            "UP_ENV_FILE": str(env_file),
        }

    def compose(self, *arguments: str, timeout_s: float = 120) -> str:
        """Run `docker compose …`; its output."""
        command = ["docker", "compose", "-f", str(COMPOSE_FILE), *arguments]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
        return done.stdout

    def up(self, *services: str) -> None:
        self.compose("up", "-d", "--build", "--wait", *services, timeout_s=UP_TIMEOUT_S)

    def remove(self) -> None:
        """Everything: containers, network and volumes."""
        self.compose("down", "--volumes", "--timeout", "5")

    def leftovers(self, kind: str) -> list[str]:
        """What there is of a kind ("container", "network", "volume") in this project."""
        label = f"label=com.docker.compose.project={self.project}"
        every = ["--all"] if kind == "container" else []
        return subprocess.run(
            ["docker", kind, "ls", "--quiet", *every, "--filter", label],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        ).stdout.split()

    def kill(self, service: str) -> None:
        """SIGKILL to every program in the service's container; init ends with them."""
        self.compose("exec", "-T", service, "sh", "-c", "kill -9 -1")

    def restarts(self, service: str) -> int:
        container = self.compose("ps", "--quiet", service).strip()
        return int(
            subprocess.run(
                ["docker", "inspect", "--format", "{{.RestartCount}}", container],
                capture_output=True,
                text=True,
                timeout=30,
                check=True,
            ).stdout
        )

    def say(self, conversation: str, text: str) -> None:
        """Write a message as a person would; it has to be accepted."""
        answer = post(f"{self.simulator}/chat/send", {"conversation": conversation, "text": text})
        assert answer["status"] == 200, answer

    def replies(self, text: str) -> list[str]:
        """The visible replies to messages that hold `text`."""
        _, body = get(f"{self.simulator}/control/ledger?since=0")
        records = json.loads(body)
        asked = {r["message_id"] for r in records if r["kind"] == "event" and text in r["text"]}
        return [
            r["text"]
            for r in records
            if r["kind"] == "send" and r["outcome"] == "visible" and r["message_id"] in asked
        ]


def get(url: str) -> tuple[int, str]:
    """Status and body; status 0 when nobody answers."""
    try:
        with _OPENER.open(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def post(url: str, body: object) -> dict[str, Any]:
    """The JSON object that is answered."""
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with _OPENER.open(request, timeout=15) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports
