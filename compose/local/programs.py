"""Which programs make up the stack, what they listen on, and in which order they stop."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from compose.local.ports import Port
from compose.local.problems import StackError
from shared.config import Settings
from shared.config.sources import read_env_file
from shared.envelope import PROCESS

RUN = Path(".run")
ENV_FILE = RUN / "env"  #: what the stack's programs, and everybody's commands, read as settings
SIMULATOR_ENV = RUN / "simulator.env"
SIMULATOR_SEED = RUN / "simulator.seed"  #: outlives `make down`: Redis holds what its secrets seal
REDIS_CONFIG = RUN / "redis.conf"
REDIS_DATA = RUN / "redis"

WORKERS = {"worker-process": "process", "worker-push": "push"}  #: program → queue and worker name
STOP_MARGIN_S = 15  #: what a worker has to end in, behind its longest task


@dataclass(frozen=True, slots=True)
class Program:
    """One supervised program.

    command: its first word is looked up in the stack's PATH, which begins with the virtual
        environment; it holds no absolute path, so no folder's name can break it.
    order: lower ones start earlier and stop later; equal ones stop together.
    stop_wait_s: how long it may take to stop before it is killed. What has nothing to finish is
        gone at once.
    """

    name: str
    command: tuple[str, ...]
    order: int
    stop_wait_s: int = 10


@dataclass(frozen=True, slots=True)
class Plan:
    """The stack as it is to be started.

    redis: the server to embed; None when the settings name one.
    simulated: "dingtalk", "feishu", "model": what is not configured and therefore simulated.
    """

    programs: tuple[Program, ...]
    ports: tuple[Port, ...]
    ready_url: str
    redis: Path | None
    simulated: tuple[str, ...]
    page: tuple[tuple[str, str], ...]

    @property
    def stop_s(self) -> int:
        """The longest that the stack may take to stop: programs of one order stop together."""
        orders = {program.order for program in self.programs}
        return sum(
            max(program.stop_wait_s for program in self.programs if program.order == order)
            for order in orders
        )


def make_plan(settings: Settings, environ: Mapping[str, str], redis: Path | None) -> Plan:
    """The plan for settings that were read without an earlier run's `.run/env`.

    Raises:
        StackError: UP_FLOWER_PORT or UP_SIMULATOR_PORT is not a port.
    """
    ingress = Port("CLAWDBOT_PORT", settings.host, settings.port)
    flower = Port("UP_FLOWER_PORT", "127.0.0.1", _port(environ, "UP_FLOWER_PORT", 5555))
    simulator = Port("UP_SIMULATOR_PORT", "127.0.0.1", _port(environ, "UP_SIMULATOR_PORT", 18790))
    simulated = not_configured(settings)
    programs = [
        Program("ingress", ("python", "-m", "ingress"), order=80),
        Program("watcher", ("python", "-m", "compose.local.watcher"), order=70),
        Program("flower", _flower(flower), order=60),
        Program("beat", _celery("beat", "-s", str(RUN / "beat-schedule"), "--pidfile="), order=50),
        *(_worker(name, queue, settings) for name, queue in WORKERS.items()),
    ]
    if simulated:
        command = ("python", *simulator_arguments(simulator, ingress, simulated))
        programs.append(Program("simulator", command, order=30))
    if redis:
        programs.append(Program("redis", (redis.name, str(REDIS_CONFIG)), order=10, stop_wait_s=30))
    return Plan(
        programs=tuple(sorted(programs, key=lambda program: program.order)),
        ports=(ingress, flower, *((simulator,) if simulated else ())),
        ready_url=f"{ingress.url}/ready?deep=1",
        redis=redis,
        simulated=simulated,
        page=_page(settings, ingress, flower, simulator, simulated),
    )


def with_env_file(root: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment over `.env`, as Compose takes the ports that are no settings."""
    written = read_env_file(root / ".env", ".env", [])
    return {**written, **{name: value for name, value in environ.items() if value}}


def not_configured(settings: Settings) -> tuple[str, ...]:
    """The platforms without a bot, and "model" without an endpoint."""
    configured = {bot.platform for bot in settings.all_bots()}
    platforms = tuple(name for name in ("dingtalk", "feishu") if name not in configured)
    return platforms if settings.service.auth.endpoint else (*platforms, "model")


def embeds_redis(settings: Settings) -> bool:
    """Whether nobody set CLAWDBOT_REDIS__URL."""
    return "url" not in settings.redis.model_fields_set


def _worker(name: str, queue: str, settings: Settings) -> Program:
    """It finishes what it has begun: an answer that is cut off is paid for twice."""
    task_s = settings.answer_timeout_s if queue == PROCESS else settings.task_timeout_s
    stop_wait_s = math.ceil(task_s) + STOP_MARGIN_S
    return Program(name, worker_command(queue, settings), order=40, stop_wait_s=stop_wait_s)


def worker_command(queue: str, settings: Settings) -> tuple[str, ...]:
    slots = str(settings.async_processing.thread_pool_size)
    quiet = ("--without-gossip", "--without-mingle")
    return _celery("worker", "-Q", queue, "-P", "threads", "-c", slots, "-n", f"{queue}@%h", *quiet)


def simulator_arguments(port: Port, ingress: Port, simulated: tuple[str, ...]) -> tuple[str, ...]:
    """What comes behind `python`."""
    return (
        *("-m", "tests.simulator", "--host", port.host, "--port", str(port.number)),
        *("--ingress", ingress.url, "--only", ",".join(simulated)),
        *("--env-out", str(SIMULATOR_ENV), "--seed-file", str(SIMULATOR_SEED)),
    )


def _celery(*arguments: str) -> tuple[str, ...]:
    return ("python", "-m", "celery", "-A", "workers", *arguments)


def _flower(port: Port) -> tuple[str, ...]:
    return _celery("flower", f"--address={port.host}", f"--port={port.number}")


def _port(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name, "").strip() or str(default)
    if text.isascii() and text.isdigit() and 1 <= int(text) <= 65535:
        return int(text)
    raise StackError(f"{name}={text!r}: must be a port, from 1 to 65535")


def _page(
    settings: Settings, ingress: Port, flower: Port, simulator: Port, simulated: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
    """What to open: (words, address)."""
    chats = tuple(name for name in simulated if name != "model")
    titles = {"dingtalk": "DingTalk", "feishu": "Feishu"}
    lines = []
    if chats:
        lines.append((f"Chat ({' and '.join(titles[c] for c in chats)}, simulated)", simulator.url))
    if "model" in simulated:
        lines.append(("Model (stand-in; set CLAWDBOT_ENDPOINT for yours)", simulator.url))
    lines.append(("Flower: queues, workers, tasks", flower.url))
    for bot in settings.all_bots():
        name = "" if bot.name == "default" else f"/{bot.name}"
        words = f"Webhook of the {titles.get(bot.platform, bot.platform)} bot"
        lines.append((words, f"{ingress.url}/{bot.platform}/webhook{name}"))
    lines += [("Ready?", f"{ingress.url}/ready?deep=1"), ("Metrics", f"{ingress.url}/metrics")]
    return tuple((words, url if "/" in url[8:] else f"{url}/") for words, url in lines)


def search_path(redis: Path | None, environ: Mapping[str, str], python: Path) -> str:
    """PATH for the stack: the virtual environment of `python`, the chosen Redis, the rest."""
    folders = [str(python.parent), *([str(redis.parent)] if redis else [])]
    return os.pathsep.join([*folders, environ.get("PATH", os.defpath)])
