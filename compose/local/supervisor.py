"""supervisord, which keeps every program alive, and the way to talk to it over its unix socket.

https://supervisord.org/configuration.html, https://supervisord.org/api.html
"""

from __future__ import annotations

import http.client
import shlex
import socket
import subprocess
import sys
import xmlrpc.client
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compose.local import processes
from compose.local.problems import StackError
from compose.local.programs import RUN, Program

SOCKET_NAME = "supervisor.sock"
PID_FILE = "supervisord.pid"
_START_TIMEOUT_S = 20.0
_CALL_TIMEOUT_S = 60.0  # no call waits for a program; the machine may be busy
_STOP_GRACE_S = 10.0
_KILL_TIMEOUT_S = 10.0
_PROBE_TIMEOUT_S = 5.0

# Paths are relative to the project, and %(ENV_…)s is put in after comments were cut: so a folder's
# name may hold what supervisor's syntax gives a meaning (blanks, %, # and ;).
_HEAD = """\
; Made by `make up`.
[supervisord]
logfile={run}/logs/supervisord.log
logfile_maxbytes=10MB
logfile_backups=3
pidfile={run}/{pid_file}
childlogdir={run}/logs
[unix_http_server]
file=%(ENV_UP_SOCKETS)s/{socket_name}
chmod=0600
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""

# Nothing starts by itself, because Redis has to answer before the others start. Once started, a
# program is restarted for ever; `startsecs` tells a start from a crash.
_PROGRAM = """\
[program:{name}]
command={command}
priority={order}
autostart=false
autorestart=true
startsecs=1
startretries=1000000
stopsignal=TERM
stopwaitsecs={stop_wait_s}
killasgroup=true
redirect_stderr=true
stdout_logfile={run}/logs/{name}.log
stdout_logfile_maxbytes=10MB
stdout_logfile_backups=3
"""


@dataclass(frozen=True, slots=True)
class State:
    """One program as supervisord sees it. `stopped_at`: Unix s of its last end, 0 for never."""

    name: str
    label: str
    pid: int
    stopped_at: int
    description: str

    @property
    def is_running(self) -> bool:
        return self.label == "RUNNING"


class Supervisor:
    """A supervisord behind a unix socket."""

    def __init__(self, socket_path: Path) -> None:
        self._path = socket_path
        self._groups: dict[str, str] = {}

    def answers(self) -> bool:
        try:
            self._call("getPID", timeout_s=_PROBE_TIMEOUT_S)
        except StackError:
            return False
        return True

    def pid(self) -> int:
        return int(self._call("getPID"))

    def states(self) -> list[State]:
        """Every program, in the order of its start."""
        told = self._call("getAllProcessInfo")
        self._groups = {info["name"]: info["group"] for info in told}
        return [
            State(i["name"], i["statename"], i["pid"], i["stop"], i["description"]) for i in told
        ]

    def start(self, name: str) -> None:
        """Ask for a start, and don't wait for it. Starting what runs is no fault."""
        try:
            self._call("startProcess", self._full_name(name), False)
        except xmlrpc.client.Fault as fault:
            if "ALREADY_STARTED" not in fault.faultString:
                raise StackError(f"{name} can't be started: {fault.faultString}") from fault

    def restart(self, name: str) -> None:
        """Stop and start again."""
        self.stop(name)
        self.start(name)

    def stop(self, name: str) -> None:
        """SIGTERM, then SIGKILL; waits for the end. It stays stopped. Twice is no fault.

        Its stop_wait_s is the time to finish work in; who is stopped alone, because it is stuck,
        does none and gets less.
        """
        full_name = self._full_name(name)
        try:
            self._call("stopProcess", full_name, False)
            if not self._ends(name, timeout_s=_STOP_GRACE_S):
                self._call("signalProcess", full_name, "KILL")
        except xmlrpc.client.Fault as fault:
            if "NOT_RUNNING" not in fault.faultString:
                raise StackError(f"{name} can't be stopped: {fault.faultString}") from fault
        if not self._ends(name, timeout_s=_KILL_TIMEOUT_S):
            raise StackError(f"{name} can't be stopped: SIGKILL did not end it")

    def shutdown(self) -> None:
        """Ask it to stop every program, the last started first, and then itself."""
        self._call("shutdown")

    def _ends(self, name: str, *, timeout_s: float) -> bool:
        """Whether the program has no process any more, in time."""

        def has_ended() -> bool:
            return not any(state.pid for state in self.states() if state.name == name)

        return processes.wait_for(has_ended, timeout_s=timeout_s)

    def _full_name(self, name: str) -> str:
        if name not in self._groups:
            self.states()
        return f"{self._groups.get(name, name)}:{name}"

    def _call(self, method: str, *arguments: Any, timeout_s: float = _CALL_TIMEOUT_S) -> Any:
        transport = _UnixTransport(self._path, timeout_s)
        try:
            with xmlrpc.client.ServerProxy("http://localhost", transport=transport) as proxy:
                return getattr(proxy.supervisor, method)(*arguments)
        except (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError) as error:
            raise StackError(f"the supervisor does not answer: {error!r}") from error


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__()
        self._unix_path, self._timeout_s = path, timeout_s

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = _UnixConnection(self._unix_path, self._timeout_s)
        self._connection = host, connection  # where the base class looks when it closes
        return connection


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._unix_path = path

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(self.timeout)
            sock.connect(str(self._unix_path))
        except BaseException:
            sock.close()
            raise
        self.sock = sock


def config_text(programs: Iterable[Program]) -> str:
    """supervisord.conf. Programs of one order form a group, because groups stop one by one."""
    parts = [_HEAD.format(run=RUN, pid_file=PID_FILE, socket_name=SOCKET_NAME)]
    groups: dict[int, list[str]] = defaultdict(list)
    for program in programs:
        groups[program.order].append(program.name)
        parts.append(
            _PROGRAM.format(
                run=RUN,
                name=program.name,
                command=shlex.join(program.command).replace("%", "%%"),
                order=program.order,
                stop_wait_s=program.stop_wait_s,
            )
        )
    for order, names in groups.items():
        if len(names) > 1:
            members = f"programs={','.join(names)}\npriority={order}\n"
            parts.append(f"[group:group-{order}]\n{members}")
    return "".join(parts)


def launch(run: Path, sockets: Path, environ: Mapping[str, str]) -> Supervisor:
    """Start a supervisord for `<run>/supervisord.conf` in the background; it starts no program yet.

    run: the absolute path of a `.run`; the programs run in the folder that it is in.

    Raises:
        StackError: it did not come up.
    """
    command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(run / "supervisord.conf")]
    marked = {**environ, processes.MARK: str(run), "UP_SOCKETS": str(sockets)}
    done = subprocess.run(
        command, cwd=run.parent, env=marked, capture_output=True, text=True, check=False
    )
    supervisor = Supervisor(sockets / SOCKET_NAME)
    if done.returncode or not processes.wait_for(supervisor.answers, timeout_s=_START_TIMEOUT_S):
        raise StackError(f"the supervisor did not start: {(done.stderr or done.stdout).strip()}")
    return supervisor
