"""A start that can't go on says what is to blame and ends; one that came too early begins again."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import redis
import requests

from shared.state import keys
from tests.e2e.processes import wait_until
from tests.integration.gateway import environ_for
from tests.integration.ingress_process import ROOT, IngressProcess
from tests.redis_server import RedisServer, free_port

INGRESS = ["-m", "ingress"]
WORKER = ["-m", "celery", "-A", "workers", "worker", "-Q", "push", "-P", "solo"]


BOTH = pytest.mark.parametrize("program", [INGRESS, WORKER], ids=["ingress", "worker"])
SOON_S = 60


def fault_of(
    program: list[str], folder: Path, redis_url: str, exit_code: int = 1, **changes: str
) -> str:
    """What is on stderr when it has ended."""
    done = subprocess.run(
        [sys.executable, *program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ_for(redis_url, **changes)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == exit_code
    return done.stderr


@BOTH
def test_a_log_folder_that_can_not_be_used(
    program: list[str], tmp_path: Path, redis_server: RedisServer
) -> None:
    (tmp_path / "file").touch()

    said = fault_of(program, tmp_path, redis_server.url, LOG_DIR="file/logs")

    assert said.splitlines()[-1] == "CLAWDBOT_LOG_DIR=file/logs: Not a directory"
    assert "Traceback" not in said


def test_a_port_that_is_taken(tmp_path: Path, redis_server: RedisServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        said = fault_of(INGRESS, tmp_path, redis_server.url, PORT=str(port), HOST="127.0.0.1")

    assert said.startswith(f"CLAWDBOT_PORT={port}: ")
    assert said.count("\n") == 1


@BOTH
def test_a_watched_file_that_can_not_be_used(
    program: list[str], tmp_path: Path, redis_server: RedisServer
) -> None:
    (tmp_path / "live.yaml").write_text("security: {qsp: 1}\n")

    said = fault_of(
        program, tmp_path, redis_server.url, exit_code=2, CONFIG_CENTER__FILE="live.yaml"
    )

    assert said.startswith("settings: ")
    assert "live.yaml line 1) is not a setting" in said
    assert "Traceback" not in said


@BOTH
def test_a_setting_in_redis_that_can_not_be_used(
    program: list[str], tmp_path: Path, redis_server: RedisServer, redis_client: redis.Redis
) -> None:
    redis_client.hset(keys.CONFIG, "security.qsp", "1")

    said = fault_of(program, tmp_path, redis_server.url, exit_code=2)

    assert "settings: security.qsp (Redis) is not a setting" in said
    assert "clawdbot config unset NAME" in said
    assert "Traceback" not in said


def test_an_ingress_that_started_without_redis_is_built_anew_by_what_it_says(
    tmp_path: Path,
) -> None:
    with RedisServer(tmp_path) as server, server.client() as client:
        before, after = free_port(), free_port()
        client.hset(keys.CONFIG, "port", str(after))
        server.stop()
        environ = environ_for(server.url, PORT=str(before), HOST="127.0.0.1")
        ingress = IngressProcess(tmp_path, environ)
        try:
            server.start()
            wait_until(lambda: is_listened_on(after), SOON_S, "it serves as Redis says")
            assert not is_listened_on(before)
        finally:
            assert ingress.stop() == 0


def test_a_worker_that_started_without_redis_is_built_anew_by_what_it_says(
    tmp_path: Path,
) -> None:
    """Celery is told how many slots it has before anything runs."""
    with RedisServer(tmp_path) as server, server.client() as client:
        client.hset(keys.CONFIG, "async_processing.thread_pool_size", "3")
        server.stop()
        with running_worker(tmp_path, server.url) as (log, _):
            wait_until(lambda: "config.unread" in log.read_text(), SOON_S, "it found no Redis")
            server.start()
            wait_until(lambda: client.hlen(keys.WORKERS) == 1, SOON_S, "it works")
            (facts,) = client.hvals(keys.WORKERS)

    assert json.loads(facts)["concurrency"] == 3


def test_a_worker_that_waits_for_redis_ends_when_it_is_told_to(tmp_path: Path) -> None:
    """In a container, as its first process, it has no other answer to SIGTERM than its own."""
    with RedisServer(tmp_path) as server:
        server.stop()
        with running_worker(tmp_path, server.url) as (log, worker):
            wait_until(lambda: "redis.awaited" in log.read_text(), SOON_S, "it waits")
            worker.terminate()
            assert worker.wait(SOON_S) == 0


def test_a_file_that_breaks_while_redis_is_awaited_keeps_no_door_shut(tmp_path: Path) -> None:
    """What it said last holds, as at any other time."""
    live = tmp_path / "live.yaml"
    live.write_text("security: {qps: 100}\n")
    with RedisServer(tmp_path) as server:
        server.stop()
        port = free_port()
        environ = environ_for(
            server.url, PORT=str(port), HOST="127.0.0.1", CONFIG_CENTER__FILE=str(live)
        )
        ingress = IngressProcess(tmp_path, environ)
        try:
            assert outcome_of_a_call(port) == "not_ready"
            live.write_text("security: {qsp: 100}\n")
            wait_until(lambda: "config.refused" in ingress.log.read_text(), SOON_S, "it is refused")
            server.start()
            wait_until(lambda: outcome_of_a_call(port) != "not_ready", SOON_S, "the door opens")
        finally:
            assert ingress.stop() == 0


def outcome_of_a_call(port: int) -> str:
    """Of one that proves nothing."""
    answer = requests.post(f"http://127.0.0.1:{port}/dingtalk/webhook", data=b"{}", timeout=10)
    return str(answer.json()["error"])


@contextmanager
def running_worker(folder: Path, redis_url: str) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """Yields its log, and itself."""
    command = [sys.executable, *WORKER[:-2], "-P", "threads"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), **environ_for(redis_url)}
    path = folder / "worker.log"
    with path.open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environ, stdout=log, stderr=log)
    try:
        yield path, process
    finally:
        process.terminate()
        try:
            process.wait(SOON_S)
        finally:
            process.kill()


def is_listened_on(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False
