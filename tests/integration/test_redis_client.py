"""The workers' client of Redis: what it does with a connection that went bad while it was idle."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from celery.exceptions import SoftTimeLimitExceeded

from shared.config import load_settings
from tests.e2e.processes import wait_until
from tests.redis_server import RedisServer
from workers.redis_client import connect
from workers.redis_pool import PlainConnection
from workers.sockets import is_readable

ROOT = Path(__file__).parents[2]


@pytest.fixture
def client(redis_server: RedisServer, tmp_path: Path) -> Iterator[redis.Redis]:
    settings = load_settings({"CLAWDBOT_REDIS__URL": redis_server.url}, cwd=tmp_path)
    made = connect(settings, max_connections=1)
    yield made
    made.close()


def idle_connection(client: redis.Redis) -> PlainConnection:
    """The one connection of the client, back in its pool."""
    connection = client.connection_pool.get_connection()
    assert isinstance(connection, PlainConnection)
    client.connection_pool.release(connection)
    return connection


def test_connection_that_the_server_closed_is_replaced(
    client: redis.Redis, redis_client: redis.Redis
) -> None:
    connection_id = client.client_id()
    redis_client.client_kill_filter(_id=connection_id)
    assert client.client_id() != connection_id


def test_reply_that_nobody_took_is_not_taken_for_the_next_one(client: redis.Redis) -> None:
    client.ping()
    connection = idle_connection(client)
    connection.send_command("ECHO", "stale")
    wait_until(lambda: is_readable(connection._sock), 10, "the reply has come")
    assert client.echo("fresh") == "fresh"


def test_quiet_connection_is_kept(client: redis.Redis) -> None:
    assert client.client_id() == client.client_id()


def test_more_callers_than_connections_wait_for_one(client: redis.Redis) -> None:
    with ThreadPoolExecutor(8) as callers:
        ids = list(callers.map(lambda _: client.client_id(), range(200)))
    assert set(ids) == {client.client_id()}


def test_a_look_that_is_interrupted_costs_no_connection(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = client.client_id()
    with monkeypatch.context() as patched:
        patched.setattr("workers.redis_pool.is_readable", interrupted)
        with pytest.raises(SoftTimeLimitExceeded):
            client.ping()

    assert client.client_id() == first


def interrupted(_: Any) -> bool:
    raise SoftTimeLimitExceeded


def test_a_child_does_not_use_its_parents_connection(client: redis.Redis, tmp_path: Path) -> None:
    ours = client.client_id()
    told = tmp_path / "id"
    child = os.fork()
    if child == 0:
        told.write_text(str(client.client_id()))
        os._exit(0)

    os.waitpid(child, 0)

    assert int(told.read_text()) != ours == client.client_id()


def test_all_of_it_under_gevent() -> None:
    """A closed, a readable and a quiet socket, seen past gevent's own `poll`."""
    program = """
from gevent import monkey; monkey.patch_all()
import socket
from workers.sockets import is_readable
one, other = socket.socketpair()
assert not is_readable(one)
other.send(b"x")
assert is_readable(one)
assert one.recv(1) == b"x" and not is_readable(one)
other.close()
assert is_readable(one)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
