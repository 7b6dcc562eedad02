"""Waiting until the stack can serve, and telling which program is in the way when it can't."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from compose.local.ports import Port
from compose.local.problems import StackError
from compose.local.supervisor import State, Supervisor

TIMEOUT_S = 120.0
CRASHES = 3  #: a program that ended this often while starting won't come up by waiting
LOG_LINES = 15
_POLL_S = 0.25
_REQUEST_TIMEOUT_S = 3.0

# No proxy stands between us and this machine, whatever the environment says.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class Readiness:
    """What has to hold: every program runs, every port is open, the ready URL answers 200."""

    supervisor: Supervisor
    ready_url: str
    logs: Path
    ports: Sequence[Port] = ()


def wait_until_ready(wanted: Readiness, *, timeout_s: float = TIMEOUT_S) -> None:
    """Wait for all of it.

    Raises:
        StackError: it takes too long or a program keeps ending; shows the end of its log.
    """
    deadline = time.monotonic() + timeout_s
    ends: dict[str, set[int]] = defaultdict(set)
    while True:
        states = wanted.supervisor.states()
        missing = _missing(wanted, states)
        if not missing:
            return
        for state in states:
            ends[state.name] |= {state.stopped_at} - {0}
        crashed = [name for name, times in ends.items() if len(times) >= CRASHES]
        if crashed or time.monotonic() > deadline:
            culprits = crashed or [state.name for state in states if not state.is_running]
            raise StackError(_explain(wanted.logs, missing, culprits))
        time.sleep(_POLL_S)


def probe(ready_url: str) -> tuple[int, str]:
    """Status and body of the ready URL; status 0 and the reason when nobody answers."""
    try:
        with _OPENER.open(ready_url, timeout=_REQUEST_TIMEOUT_S) as answer:
            return answer.status, answer.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode("utf-8", "replace")
    except OSError as error:
        return 0, json.dumps({"status": "unreachable", "reasons": [str(error)]})


def _missing(wanted: Readiness, states: Sequence[State]) -> str:
    """The first thing that does not hold yet; empty when all is well."""
    idle = [f"{state.name} ({state.label.lower()})" for state in states if not state.is_running]
    if idle:
        return f"not running: {', '.join(idle)}"
    closed = [port.setting for port in wanted.ports if not _is_open(port)]
    if closed:
        return f"nobody listens yet on the port of {', '.join(closed)}"
    status, body = probe(wanted.ready_url)
    return "" if status == 200 else f"{wanted.ready_url} answers {status or 'nothing'}: {body}"


def _is_open(port: Port) -> bool:
    target = urlsplit(port.url)
    try:
        with socket.create_connection((target.hostname, port.number), _REQUEST_TIMEOUT_S):
            return True
    except OSError:
        return False


def _explain(logs: Path, missing: str, culprits: Sequence[str]) -> str:
    parts = [f"the stack did not get ready: {missing}"]
    for name in culprits:
        file = logs / f"{name}.log"
        lines = file.read_text("utf-8", "replace").splitlines() if file.exists() else []
        parts += [
            f"\nthe end of .run/logs/{name}.log:",
            *(f"  {line}" for line in lines[-LOG_LINES:]),
        ]
    return "\n".join(parts)
