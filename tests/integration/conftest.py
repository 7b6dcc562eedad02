from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from tests.integration.doctor import Doctor
from tests.integration.gateway import environ_for, settings_for, simulator
from tests.integration.lanes import Bench
from tests.integration.stages import Stack
from tests.redis_server import RedisServer, free_port
from tests.simulator.world import Pace, World


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


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with simulator(free_port()) as made:
        yield made


@pytest.fixture
def make_stack(
    world: World, redis_server: RedisServer, redis_client: redis.Redis
) -> Iterator[Callable[..., Stack]]:
    """Stages whose settings are changed: names without `CLAWDBOT_`."""
    made: list[Stack] = []

    def make(**changes: str) -> Stack:
        settings = settings_for(redis_server.url, world.base_url, **changes)
        made.append(Stack(settings, redis_client, world))
        return made[-1]

    yield make
    for stack in made:
        stack.runtime.redis.connection_pool.disconnect()
    world.ledger.reset()
    world.faults.clear()
    world.sessions_void_until_ms = 0
    world.pace = Pace()


@pytest.fixture
def stack(make_stack: Callable[..., Stack]) -> Stack:
    return make_stack()
