"""Ingress and workers follow the configuration centre in a real Redis, and outlive its absence."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from ingress.config_center import first_look
from shared.config.follow import Follower, make_follower
from shared.errors import ConfigError
from shared.state import keys
from tests.e2e.processes import wait_until
from tests.e2e.talk import eventually
from tests.integration.gateway import build, environ_for, running
from tests.redis_server import RedisServer, free_port
from workers.config_center import ConfigCenter

SOON_S = 20
HASH = "security.qps"
TYPO = "security.qsp"
LISTED_AND_A_TYPO = {"security.allow_cidrs.feishu": "192.0.2.0/24", TYPO: "9"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def follower_of(redis_url: str, monkeypatch: pytest.MonkeyPatch, **changes: str) -> Follower:
    for name, value in environ_for(redis_url, **changes).items():
        monkeypatch.setenv(name, value)
    return make_follower()


@pytest.fixture
def follower(
    redis_server: RedisServer,
    redis_client: redis.Redis,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Follower:
    (folder / "center.yaml").touch()
    return follower_of(redis_server.url, monkeypatch, CONFIG_CENTER__FILE="center.yaml")


@pytest.fixture
def follow(follower: Follower) -> Iterator[Callable[[], ConfigCenter]]:
    """A worker's centre, followed until the test ends: what later ones write is not for it."""
    made: list[ConfigCenter] = []

    def call() -> ConfigCenter:
        made.append(ConfigCenter(follower))
        made[-1].follow()
        return made[-1]

    yield call
    for center in made:
        center.stop()


@pytest.fixture
def events(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


def told(events: pytest.LogCaptureFixture, name: str) -> list[dict[str, object]]:
    return [r.__dict__["metadata"] for r in events.records if r.getMessage() == name]


async def test_the_ingress_takes_a_new_limit_from_redis_and_from_the_file(
    follower: Follower, redis_client: redis.Redis, folder: Path
) -> None:
    redis_client.hset(keys.CONFIG, "async_processing.queue_capacity", "20000")
    await first_look(follower)
    settings = follower.live.settings
    assert settings.async_processing.queue_capacity == 20_000

    numbers = itertools.count()  #: of conversations: none is ever full

    async with running(settings, follower) as gateway:

        async def is_limited() -> bool:
            calls = [build("feishu", conversation=f"c{next(numbers)}") for _ in range(20)]
            posts = [gateway.post(call) for call in calls]
            return 429 in {answer.status for answer in await asyncio.gather(*posts)}

        assert not await is_limited()
        redis_client.hset(keys.CONFIG, HASH, "1")
        await eventually(is_limited, SOON_S, "the limit of Redis is in force")

        redis_client.hset(keys.CONFIG, HASH, "1000")
        await eventually(lambda: _not(is_limited), SOON_S, "the new one is")
        redis_client.hdel(keys.CONFIG, HASH)
        (folder / "center.yaml").write_text("security: {qps: 1}\n")
        await eventually(is_limited, SOON_S, "the limit of the file is in force")


@pytest.fixture(params=["ingress", "worker"])
def start(request: pytest.FixtureRequest) -> Callable[[Follower], None]:
    """The first look of each side."""
    if request.param == "worker":
        return lambda follower: ConfigCenter(follower) and None
    return lambda follower: asyncio.run(first_look(follower))


def test_a_start_asks_the_redis_that_the_file_names(
    redis_server: RedisServer,
    redis_client: redis.Redis,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    start: Callable[[Follower], None],
) -> None:
    redis_client.hset(keys.CONFIG, HASH, "5")
    (folder / "center.yaml").write_text(f"redis: {{url: '{redis_server.url}'}}\n")
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    follower = follower_of(nowhere, monkeypatch, CONFIG_CENTER__FILE="center.yaml")

    start(follower)

    assert follower.away == set()
    assert follower.live.settings.security.qps == 5


def test_a_start_takes_all_of_a_file_that_needs_what_redis_says(
    follower: Follower,
    redis_client: redis.Redis,
    folder: Path,
    start: Callable[[Follower], None],
) -> None:
    redis_client.hset(keys.CONFIG, "models.third.endpoint", "https://third.example/v1")
    (folder / "center.yaml").write_text("port: 1\nmodel: {chain: [third]}\n")

    start(follower)

    assert not any(follower.refused.values())
    assert follower.live.settings.port == 1
    assert follower.live.settings.model.chain == ("third",)


def test_a_start_ends_with_a_value_in_redis_that_can_not_be_used(
    follower: Follower, redis_client: redis.Redis, start: Callable[[Follower], None]
) -> None:
    redis_client.hset(keys.CONFIG, mapping=LISTED_AND_A_TYPO)

    with pytest.raises(ConfigError, match=rf"{TYPO} .*\n.*clawdbot config unset NAME"):
        start(follower)


def test_a_start_ends_with_a_file_that_can_not_be_used_or_is_away(
    follower: Follower, folder: Path, start: Callable[[Follower], None]
) -> None:
    (folder / "center.yaml").write_text(
        "security: {allow_cidrs: {feishu: [192.0.2.0/24]}, qsp: 9}\n"
    )
    with pytest.raises(ConfigError, match=r"qsp \(.*center\.yaml line 1\) is not a setting"):
        start(follower)

    (folder / "center.yaml").unlink()
    with pytest.raises(ConfigError, match=r"center\.yaml can't be read: No such file"):
        start(follower)


async def _not(condition: object) -> bool:
    return not await condition()  # type: ignore[operator]


async def test_the_ingress_starts_without_redis_and_takes_its_values_when_it_is_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch, events: pytest.LogCaptureFixture
) -> None:
    with RedisServer(folder) as server:
        server.stop()
        follower = follower_of(server.url, monkeypatch)
        await first_look(follower)
        follower.tell()
        assert [facts["source"] for facts in told(events, "config.unread")] == ["redis"]

        async with running(follower.live.settings, follower):
            server.start()
            with server.client() as client:
                client.hset(keys.CONFIG, HASH, "7")

            async def is_taken() -> bool:
                return follower.live.settings.security.qps == 7

            await eventually(is_taken, SOON_S, "the value is in force")


async def test_nobody_is_let_in_until_redis_has_said_who_may_come(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def is_refused() -> bool:
        return bool(follower.refused.get("redis"))

    async def is_whole() -> bool:
        return follower.is_whole

    with RedisServer(folder) as server, server.client() as client:
        client.hset(keys.CONFIG, mapping=LISTED_AND_A_TYPO)
        server.stop()
        follower = follower_of(server.url, monkeypatch)
        await first_look(follower)

        async with running(follower.live.settings, follower) as gateway:
            server.start()
            await eventually(is_refused, SOON_S, "the hash is read, and refused")
            assert (await gateway.post(build("feishu"))).status == 503
            ready = await gateway.get("/ready")
            assert (ready.status, b"configuration centre" in ready.body) == (503, True)

            client.hdel(keys.CONFIG, TYPO)
            await eventually(is_whole, SOON_S, "the hash is taken")
            assert (await gateway.post(build("feishu"))).status == 403
            assert (await gateway.post(build("dingtalk"))).status == 200


def test_a_worker_starts_with_the_centres_values_and_follows_them(
    follow: Callable[[], ConfigCenter],
    redis_client: redis.Redis,
    events: pytest.LogCaptureFixture,
) -> None:
    redis_client.hset(keys.CONFIG, mapping={HASH: "5", "task_timeout_s": "4"})
    center = follow()
    assert center.live.settings.security.qps == 5
    assert center.live.settings.task_timeout_s == 4

    center.follow()  # asked again
    redis_client.hset(keys.CONFIG, mapping={HASH: "6", "task_timeout_s": "3"})
    wait_until(lambda: center.live.settings.security.qps == 6, SOON_S, "it follows")
    assert center.live.settings.task_timeout_s == 4
    wait_until(lambda: told(events, "config.restart_needed"), SOON_S, "the other is told")
    assert told(events, "config.restart_needed") == [
        {"source": "redis", "settings": ["task_timeout_s"]}
    ]


def test_a_broken_centre_leaves_a_worker_with_the_last_good_values(
    follow: Callable[[], ConfigCenter],
    redis_client: redis.Redis,
    events: pytest.LogCaptureFixture,
) -> None:
    redis_client.hset(keys.CONFIG, HASH, "5")
    center = follow()

    redis_client.hset(keys.CONFIG, HASH, "many")
    wait_until(lambda: told(events, "config.refused"), SOON_S, "it is refused")
    redis_client.delete(keys.CONFIG)
    redis_client.set(keys.CONFIG, "not a hash")
    wait_until(lambda: told(events, "config.unread"), SOON_S, "it is no hash")
    redis_client.delete(keys.CONFIG)
    redis_client.hset(keys.CONFIG, HASH, b"\xff")
    redis_client.hset(keys.CONFIG, "model.name", "x")

    assert center.live.settings.security.qps == 5
    redis_client.hset(keys.CONFIG, HASH, "9")
    wait_until(lambda: center.live.settings.security.qps == 9, SOON_S, "it is mended")
    assert len(told(events, "config.refused")) == 1


def test_a_worker_without_redis_has_what_is_written_elsewhere(
    folder: Path, monkeypatch: pytest.MonkeyPatch, events: pytest.LogCaptureFixture
) -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    follower = follower_of(url, monkeypatch, SECURITY__QPS="3")

    center = ConfigCenter(follower)
    center.tell()

    assert center.live.settings.security.qps == 3
    assert not center.is_whole
    assert [facts["source"] for facts in told(events, "config.unread")] == ["redis"]


def test_a_forked_process_follows_by_itself_and_tells_nothing(
    follower: Follower, redis_client: redis.Redis, tmp_path: Path
) -> None:
    """As prefork's children do; the value changed while nobody of this worker looked."""
    center = ConfigCenter(follower)
    redis_client.hset(keys.CONFIG, HASH, "8")
    report = tmp_path / "child.json"
    child = os.fork()
    if child == 0:
        center.follow()
        report.write_text(json.dumps([center.live.settings.security.qps]))
        os._exit(0)

    os.waitpid(child, 0)

    assert json.loads(report.read_text()) == [8]
    assert center.live.settings.security.qps == 500
