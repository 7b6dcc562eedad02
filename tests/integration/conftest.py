from __future__ import annotations

from pathlib import Path

import pytest
import redis

from tests.integration.doctor import Doctor
from tests.integration.gateway import environ_for
from tests.integration.lanes import Bench
from tests.redis_server import RedisServer


@pytest.fixture
def bench(redis_client: redis.Redis) -> Bench:
    return Bench(redis_client)


@pytest.fixture
def doctor(
    redis_server: RedisServer,
    redis_client: redis.Redis,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Doctor:
    """It finds an empty Redis."""
    monkeypatch.chdir(tmp_path)  # no `.env` lies there
    return Doctor(environ_for(redis_server.url))
