"""Starts, heals and stops the stack in a folder; every step leaves nothing half-done behind."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from redis.exceptions import RedisError

from compose.local import ports, processes, redis_server, sockets, supervisor
from compose.local.problems import StackError
from compose.local.programs import (
    ENV_FILE,
    REDIS_CONFIG,
    REDIS_DATA,
    RUN,
    SIMULATOR_ENV,
    Plan,
    Program,
    embeds_redis,
    make_plan,
    search_path,
    with_env_file,
)
from compose.local.readiness import Readiness, wait_until_ready
from compose.local.state import StackState, write_private
from compose.local.supervisor import State, Supervisor
from shared.config import Settings, load_settings
from workers.redis_client import connect

REDIS_TIMEOUT_S = 60.0  #: a large append-only file takes a while to load
STOP_MARGIN_S = 10.0  #: for the supervisor itself, behind the programs' own times
QUIET_STOP_S = 8.0  #: a stop that takes longer says what it waits for
STRAY_GRACE_S = 12.0

Say = Callable[[str], None]


class Stack:
    """The stack of the project in `root`."""

    def __init__(self, root: Path, environ: Mapping[str, str], say: Say) -> None:
        self._root = root
        self._run = root / RUN
        self._environ = environ
        self._say = say

    def up(self) -> None:
        """Start what is not running yet, wait until it can serve, say what to open.

        Raises:
            StackError: nothing is left running that was not running before.
            ConfigError: the settings are wrong.
        """
        with self._alone():
            running = self._running()
            if running is None:
                self._start()
            else:
                self._heal(running)

    def down(self) -> None:
        """Stop everything in order; what Redis holds stays. Stopping what is not up is no fault.

        Raises:
            StackError: a process can't be ended.
        """
        with self._alone():
            self._say("stopped" if self._stop() else "nothing was running")

    def states(self) -> list[State]:
        """Every program of the running stack.

        Raises:
            StackError: it is not up.
        """
        return Supervisor(StackState.read(self._root).supervisor_socket).states()

    def _running(self) -> Supervisor | None:
        try:
            found = Supervisor(StackState.read(self._root).supervisor_socket)
        except StackError:
            return None
        return found if found.answers() else None

    def _heal(self, running: Supervisor) -> None:
        state = StackState.read(self._root)
        self._say("it is up already (settings changed since count after `make down`)")
        for program in running.states():
            if not program.is_running:
                self._say(f"starting {program.name}, which was {program.label.lower()}")
                running.start(program.name)
        wait_until_ready(Readiness(running, state.ready_url, self._run / "logs"))
        self._print_page(state)

    def _start(self) -> None:
        self._stop()
        plan = self._plan()
        self._check_ports(plan)
        try:
            self._launch(plan)
        except BaseException:  # Ctrl-C, too
            self._stop()
            raise

    def _plan(self) -> Plan:
        """Read the settings as they are without us: `_stop` has removed `.run/env`."""
        settings = load_settings(self._environ, cwd=self._root)
        redis = redis_server.find_server() if embeds_redis(settings) else None
        if redis is None:
            self._check_redis(settings)
        return make_plan(settings, with_env_file(self._root, self._environ), redis)

    def _check_redis(self, settings: Settings) -> None:
        with connect(settings, max_connections=1) as client:
            try:
                client.ping()
            except RedisError as error:  # told without the URL: it may hold a password
                raise StackError(f"CLAWDBOT_REDIS__URL: Redis does not answer: {error}") from error

    def _check_ports(self, plan: Plan) -> None:
        problems = ports.problems(plan.ports)
        if problems:
            raise StackError("\n".join(problems))

    def _launch(self, plan: Plan) -> None:
        folder = sockets.make_folder(self._run)
        state = StackState(str(folder), plan.ready_url, plan.page, plan.stop_s)
        state.write(self._root)
        environ = self._program_environ(plan)
        redis_socket = folder / "redis.sock"
        self._write_settings(plan, redis_socket, environ)
        config = supervisor.config_text(plan.programs)
        write_private(self._run / "supervisord.conf", config)
        running = supervisor.launch(self._run, folder, environ)
        self._start_programs(plan, running, redis_socket)
        wait_until_ready(Readiness(running, plan.ready_url, self._run / "logs", plan.ports))
        self._print_page(state)

    def _program_environ(self, plan: Plan) -> dict[str, str]:
        path = search_path(plan.redis, self._environ, Path(sys.executable))
        return {**self._environ, "PATH": path, "PYTHONUNBUFFERED": "1"}

    def _write_settings(self, plan: Plan, socket: Path, environ: Mapping[str, str]) -> None:
        """`.run/env`: where the embedded Redis is, and what the simulator stands in for."""
        lines = ["# Made by `make up`, removed by `make down`."]
        if plan.redis:
            data = self._root / REDIS_DATA
            redis_server.write_config(self._root / REDIS_CONFIG, data=data, socket=socket)
            lines.append(f"CLAWDBOT_REDIS__URL={redis_server.url(socket)}")
        for program in plan.programs:
            if program.name == "simulator":
                lines.append(self._simulator_settings(program, environ))
        write_private(self._root / ENV_FILE, "\n".join(lines) + "\n")

    def _simulator_settings(self, program: Program, environ: Mapping[str, str]) -> str:
        command = [sys.executable, *program.command[1:], "--write-env-only"]
        done = subprocess.run(
            command, cwd=self._root, env=environ, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise StackError(f"the simulator can't start: {done.stderr.strip()}")
        return (self._root / SIMULATOR_ENV).read_text("utf-8").rstrip()

    def _start_programs(self, plan: Plan, running: Supervisor, redis_socket: Path) -> None:
        if plan.redis:
            self._say("starting redis")
            running.start("redis")
            try:
                url = redis_server.url(redis_socket)
                redis_server.wait_until_ready(url, timeout_s=REDIS_TIMEOUT_S)
            except StackError as error:
                raise StackError(f"{error}; see .run/logs/redis.log") from error
        names = [program.name for program in plan.programs if program.name != "redis"]
        self._say(f"starting {', '.join(names)}")
        for name in names:
            running.start(name)

    def _stop(self) -> bool:
        """End every process of this stack, and remove what only a running one needs."""
        had_processes = bool(processes.of_stack(self._run))
        with suppress(StackError):
            self._stop_in_order()
        strays = processes.of_stack(self._run)
        stubborn = processes.end(strays, grace_s=STRAY_GRACE_S) if strays else []
        if stubborn:
            raise StackError(f"these processes can't be ended: {', '.join(map(str, stubborn))}")
        self._remove_leftovers()
        return had_processes

    def _stop_in_order(self) -> None:
        state = StackState.read(self._root)
        running = Supervisor(state.supervisor_socket)
        if not running.answers():
            return
        pids = [running.pid(), *(program.pid for program in running.states() if program.pid)]
        running.shutdown()
        if not processes.wait_for(lambda: not processes.living(pids), timeout_s=QUIET_STOP_S):
            self._say(f"waiting for answers that have begun, {state.stop_s} s at most")
            timeout_s = state.stop_s + STOP_MARGIN_S
            processes.wait_for(lambda: not processes.living(pids), timeout_s=timeout_s)

    def _remove_leftovers(self) -> None:
        with suppress(StackError):
            sockets.remove_folder(Path(StackState.read(self._root).sockets), self._run)
        StackState.remove(self._root)
        for name in ("env", "simulator.env", "redis.conf", "redis.sock", supervisor.SOCKET_NAME):
            (self._run / name).unlink(missing_ok=True)
        (self._run / supervisor.PID_FILE).unlink(missing_ok=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let no second `make up` or `make down` in this folder interfere."""
        (self._run / "logs").mkdir(parents=True, exist_ok=True)
        with (self._run / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise StackError(
                    "another `make up` or `make down` runs here; wait for it"
                ) from error
            yield

    def _print_page(self, state: StackState) -> None:
        width = max(len(words) for words, _ in state.page)
        self._say("\nClawdBot is up. Open:")
        for words, url in state.page:
            self._say(f"  {words:<{width}}  {url}")
        self._say("\n`make status`, `make logs`, `make down`; settings of this run: .run/env")
        self._say("Something wrong? `.venv/bin/clawdbot doctor` says what, and what to do.")
