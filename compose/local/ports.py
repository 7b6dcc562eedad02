"""Is a port free, and if not, who has it? Asked before anything starts."""

from __future__ import annotations

import errno
import shutil
import socket
import subprocess
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_LISTENING = "0A"  # state of a socket in /proc/net/tcp
_LSOF_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class Port:
    """A TCP port some program of the stack will listen on, and the setting that moves it."""

    setting: str
    host: str
    number: int

    @property
    def url(self) -> str:
        """Where to reach it from this machine."""
        host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.number}"


def problems(ports: Iterable[Port]) -> list[str]:
    """One sentence for every port that can't be used; empty when all are free."""
    found: list[str] = []
    settings: dict[int, str] = {}
    for port in ports:
        other = settings.setdefault(port.number, port.setting)
        if other == port.setting:
            found += _problems_of(port)
        else:
            found.append(f"{other} and {port.setting} are both {port.number}; change one of them")
    return found


def _problems_of(port: Port) -> list[str]:
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(
            port.host or None, port.number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            _listen(family, kind, protocol, address)
    except OSError as error:
        return [_explain(port, error)]
    return []


def _listen(family: int, kind: int, protocol: int, address: object) -> None:
    with socket.socket(family, kind, protocol) as probe:
        # As our servers do: connections of an earlier run that linger are not in the way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        probe.bind(address)  # type: ignore[arg-type]  # as getaddrinfo gave it
        probe.listen(1)


def _explain(port: Port, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        by = holder(port.number)
        return (
            f"{port.setting}: port {port.number} is taken{f' by {by}' if by else ''}; "
            f"stop that, or set {port.setting} to a free port"
        )
    if error.errno == errno.EACCES:
        return f"{port.setting}: you may not listen on port {port.number}; choose one above 1023"
    return f"{port.setting}: can't listen on {port.host}:{port.number}: {error.strerror or error}"


def holder(number: int) -> str:
    """`pid 42 (command)` of the process that listens on a port; empty where that can't be known."""
    if Path("/proc/net/tcp").exists():
        return _holder_from_proc(number)
    return _holder_from_lsof(number)


def _holder_from_proc(number: int) -> str:
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(number)}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # gone meanwhile, or another user's
            if any(_link(entry) in sockets for entry in (process / "fd").iterdir()):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ")
                return f"pid {process.name} ({command.decode('utf-8', 'replace').strip()})"
    return ""


def _link(entry: Path) -> str:
    """What an open file is; empty when it was closed meanwhile."""
    try:
        return str(entry.readlink())
    except FileNotFoundError:
        return ""


def _listening_inodes(number: int) -> list[str]:
    inodes: dict[int, list[str]] = defaultdict(list)
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        lines = table.read_text().splitlines()[1:] if table.exists() else []
        for fields in (line.split() for line in lines):
            if fields[3] == _LISTENING:
                inodes[int(fields[1].rpartition(":")[2], 16)].append(fields[9])
    return inodes[number]


def _holder_from_lsof(number: int) -> str:
    if shutil.which("lsof") is None:
        return ""
    command = ["lsof", "-nP", f"-iTCP:{number}", "-sTCP:LISTEN", "-Fpc"]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=_LSOF_TIMEOUT_S, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
    fields = {line[:1]: line[1:] for line in reversed(answer.splitlines())}
    return f"pid {fields['p']} ({fields.get('c', '?')})" if "p" in fields else ""
