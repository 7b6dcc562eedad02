"""Fixtures that every kind of test may use: a real Redis, and clients that look into it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.clock import Clock
from tests.e2e.sharing import StackScheduling
from tests.redis_server import RedisServer

for _name in [name for name in os.environ if name.startswith(("CLAWDBOT_", "LOG_"))]:
    del os.environ[_name]  # no test depends on the settings of the shell it runs in


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server for the whole run, append-only file and all; tests start on an empty one."""
    with RedisServer(Path(tmp_path_factory.mktemp("redis"))) as server:
        yield server


@pytest.fixture
def redis_client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """A client on an empty database."""
    client = redis_server.client()
    client.flushall()
    yield client
    client.close()


@pytest.fixture(autouse=True)
def root_log_level() -> Iterator[None]:
    """Put back after each test: programs run in this process take `log.level` as in their own."""
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> StackScheduling:
    """Several processes share the tests out as their stacks demand."""
    return StackScheduling(config, log)
