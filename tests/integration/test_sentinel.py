"""A primary, its replica and a sentinel: whoever is the primary now, is found again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
import redis
from kombu.utils.json import dumps

from compose.local.redis_server import find_server
from ingress import redis_client as ingress_redis
from ingress.bots import build_bots
from ingress.inbox import Inbox, Limits, Outcome
from shared.config import Settings
from shared.envelope import hint_templates
from shared.errors import StateUnavailableError
from shared.messages import Event
from shared.state.keys import BotKeys
from tests.integration.gateway import (
    CREDENTIALS,
    NOWHERE,
    Gateway,
    build,
    environ_for,
    running,
    settings_for,
    simulator,
)
from tests.integration.lanes import Bench, event
from tests.redis_server import START_TIMEOUT_S, RedisServer, free_port
from tests.simulator import credentials
from tests.simulator.events import Request
from tests.simulator.world import World
from workers.redis_client import broker_options, connect
from workers.store import Lanes

ROOT = Path(__file__).parents[2]
NAME = "primary"
PASSWORD = "servers' p@ss/word"
SENTINEL_PASSWORD = "sentinel's"
TIMEOUT_S = 30
DOWN_AFTER_MS = 1500  #: longer than an accept waits
FAILOVER_TIMEOUT_MS = 2000


def wait_until(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not _holds(condition):
        assert time.monotonic() < deadline, f"not within {TIMEOUT_S} s: {what}"
        time.sleep(0.05)


def _holds(condition: Callable[[], Any]) -> bool:
    try:
        return bool(condition())
    except redis.RedisError:
        return False


class Watched:
    """Two servers of which one is the primary, and one sentinel whose word is enough."""

    def __init__(self, directory: Path) -> None:
        self.servers: list[RedisServer] = []
        for name in ("one", "two"):
            (directory / name).mkdir()
            self.servers.append(RedisServer(directory / name, "--repl-diskless-sync-delay", "0"))
        self._directory = directory
        self._port = free_port()
        self._sentinel: subprocess.Popen[bytes] | None = None
        self.sentinel = redis.Redis(
            host="127.0.0.1", port=self._port, password=SENTINEL_PASSWORD, retry=None
        )

    @property
    def url(self) -> str:
        """The first sentinel is not there, as after the loss of its host."""
        login = "default:servers%27%20p%40ss%2Fword"
        gone = f"sentinel://{login}@127.0.0.1:{free_port()}"
        return f"{gone};sentinel://127.0.0.1:{self._port}/1"

    def environ(self, base_url: str = NOWHERE) -> dict[str, str]:
        return environ_for(self.url, base_url, **self._more())

    def settings(self) -> Settings:
        return settings_for(self.url, **self._more())

    def primary(self) -> RedisServer:
        """The one that the sentinel names, when it is a primary indeed."""
        _, port = self.sentinel.sentinel_get_master_addr_by_name(NAME)
        server = next(s for s in self.servers if s.port == port)
        with self.client(server) as client:
            assert client.role()[0] in (b"master", "master")
        return server

    def client(self, server: RedisServer) -> redis.Redis:
        return redis.Redis(
            host="127.0.0.1", port=server.port, password=PASSWORD, db=1, decode_responses=True
        )

    def other(self, server: RedisServer) -> RedisServer:
        return self.servers[1 - self.servers.index(server)]

    def wait_until_replicated(self) -> None:
        """Wait until the replica has what the primary has: replication is asynchronous."""
        with self.client(self.primary()) as client:
            offset = client.info("replication")["master_repl_offset"]
        with self.client(self.other(self.primary())) as client:
            wait_until(
                lambda: client.info("replication")["slave_repl_offset"] >= offset, "replicated"
            )

    def crash(self) -> RedisServer:
        """kill -9 to the primary, once its replica has everything; tells which it was."""
        self.wait_until_replicated()
        crashed = self.primary()
        crashed.stop(signal.SIGKILL)
        self.servers = [s for s in self.servers if s is not crashed]
        return crashed

    def __enter__(self) -> Watched:
        with contextlib.ExitStack() as started:
            started.callback(self._end_sentinel)
            for server in self.servers:
                started.enter_context(server)
            self._replicate(*self.servers)
            self._running = started.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._running.close()

    def _replicate(self, one: RedisServer, two: RedisServer) -> None:
        with two.client() as client:
            client.replicaof("127.0.0.1", one.port)
        for server in (one, two):
            with server.client() as client:
                client.config_set("masterauth", PASSWORD)
                client.config_set("requirepass", PASSWORD)
        self._start_sentinel(one)
        with self.client(two) as client:
            wait_until(lambda: client.info()["master_link_status"] == "up", "replication runs")
        wait_until(self._is_replica_known, "the sentinel knows the replica")

    def _end_sentinel(self) -> None:
        self.sentinel.close()
        if self._sentinel:
            self._sentinel.kill()
            self._sentinel.wait(START_TIMEOUT_S)

    def _more(self) -> dict[str, str]:
        return {"REDIS__MASTER_NAME": NAME, "REDIS__SENTINEL_PASSWORD": SENTINEL_PASSWORD}

    def _is_replica_known(self) -> bool:
        replicas = self.sentinel.sentinel_slaves(NAME)
        return [replica["flags"] for replica in replicas] == ["slave"]

    def _start_sentinel(self, primary: RedisServer) -> None:
        config = self._directory / "sentinel.conf"
        config.write_text(
            f"bind 127.0.0.1\nport {self._port}\ndir {self._directory}\n"
            f'requirepass "{SENTINEL_PASSWORD}"\n'
            f"sentinel monitor {NAME} 127.0.0.1 {primary.port} 1\n"
            f'sentinel auth-pass {NAME} "{PASSWORD}"\n'
            f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}\n"
            f"sentinel failover-timeout {NAME} {FAILOVER_TIMEOUT_MS}\n"
        )
        with (self._directory / "sentinel.log").open("wb") as log:
            self._sentinel = subprocess.Popen(
                [str(find_server()), str(config), "--sentinel"], stdout=log, stderr=log
            )
        wait_until(self.sentinel.ping, "the sentinel answers")


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    with Watched(tmp_path) as running_ones:
        yield running_ones


class Ends:
    """Both ends of a lane: what an ingress accepts, a worker claims."""

    def __init__(self, settings: Settings, *, wait_replicas: int = 0) -> None:
        self._bot = build_bots(settings)["feishu", "default"]
        self._client = ingress_redis.connect(settings)
        limits = Limits(qps=lambda: 0, queue_capacity=100, wait_replicas=wait_replicas)
        self._inbox = Inbox(self._client, hint_templates(), limits)
        self._lanes = Lanes(
            connect(settings, max_connections=2), owner="w@host/1", templates=hint_templates()
        )

    async def accept(self, accepted: Event) -> Outcome:
        return await self._inbox.accept(self._bot, accepted)

    async def accept_in_the_end(self, accepted: Event) -> Outcome:
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                return await self.accept(accepted)
            except StateUnavailableError:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)

    def claim(self, accepted: Event) -> str:
        """Claim the lane's head; tells which it is."""
        claim = self._lanes.claim(self._bot.keys.inbox(accepted.conversation_id), 1)
        assert claim is not None
        return claim.event_id

    async def aclose(self) -> None:
        await self._client.aclose()


@pytest.fixture
async def ends(watched: Watched) -> AsyncIterator[Ends]:
    both = Ends(watched.settings())
    yield both
    await both.aclose()


async def test_after_the_primary_was_killed_its_replica_is_written_and_read(
    watched: Watched, ends: Ends
) -> None:
    before, after = event("before"), event("after")
    assert await ends.accept(before) == "accepted"
    crashed = watched.crash()

    started = time.monotonic()
    with pytest.raises(StateUnavailableError):
        await ends.accept(after)
    assert time.monotonic() - started < 5

    assert await ends.accept_in_the_end(after) == "accepted"
    assert watched.primary() is not crashed
    assert await ends.accept(before) == "duplicate"
    assert ends.claim(before) == before.trace_id
    assert ends.claim(after) == after.trace_id


async def test_connections_leave_a_primary_that_became_a_replica(
    watched: Watched, ends: Ends
) -> None:
    before, after = event("before"), event("after")
    await ends.accept(before)
    assert ends.claim(before) == before.trace_id
    old = watched.primary()
    watched.sentinel.sentinel_failover(NAME)
    new = watched.other(old)
    wait_until(lambda: watched.primary() is new, "the sentinel names the other server")
    with watched.client(old) as client:  # as the sentinel does some seconds later
        client.replicaof("127.0.0.1", new.port)

    assert await ends.accept(after) == "accepted"
    assert ends.claim(after) == after.trace_id


async def test_who_waits_for_replicas_gets_no_acknowledgement_of_an_abandoned_primary(
    watched: Watched,
) -> None:
    waiting = Ends(watched.settings(), wait_replicas=1)
    old = watched.primary()
    assert await waiting.accept(event("before")) == "accepted"
    watched.sentinel.sentinel_failover(NAME)
    wait_until(lambda: watched.primary() is not old, "the sentinel names the other server")

    with watched.client(old) as client:
        assert client.role()[0] == "master"  # it takes writes that nobody will ever read
    with pytest.raises(StateUnavailableError):
        await waiting.accept(event("after"))
    await waiting.aclose()


def test_an_outcome_waits_for_a_server_that_is_a_replica_for_a_moment(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server, server.client() as client:
        bench = Bench(client)
        accepted = event()
        bench.accept(accepted)
        claim = bench.claim(accepted)
        client.replicaof("127.0.0.1", free_port())
        with server.client() as other:
            promotion = threading.Timer(0.5, other.replicaof, ("NO", "ONE"))
            promotion.start()
            bench.lanes.retry(claim, 0, "tried")
            promotion.join()

        assert bench.claim(accepted).attempt == 2


def test_celery_can_tell_its_options_without_the_sentinels_password() -> None:
    url = "sentinel://127.0.0.1:1"
    more = {"REDIS__MASTER_NAME": NAME, "REDIS__SENTINEL_PASSWORD": SENTINEL_PASSWORD}

    told = dumps(broker_options(settings_for(url, **more)))

    assert NAME in told
    assert SENTINEL_PASSWORD not in told


@pytest.fixture
def worker(watched: Watched, tmp_path: Path) -> Iterator[World]:
    """A stock worker for every queue, and the platforms and the model that it calls."""
    port = free_port()
    environ = {**os.environ, **watched.environ(f"http://127.0.0.1:{port}"), "PYTHONPATH": str(ROOT)}
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "workers",
        "worker",
        "-P",
        "threads",
        "-c",
        "2",
    ]
    with simulator(port) as world, (tmp_path / "worker.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=environ, stdout=log, stderr=log)
        yield world
        process.terminate()
        process.wait(TIMEOUT_S)


@pytest.mark.e2e
async def test_a_worker_answers_before_and_after_the_primary_was_killed(
    watched: Watched, worker: World
) -> None:
    async with running(watched.settings()) as gateway:
        assert (await gateway.post(build("feishu", "one", conversation="c1"))).status == 200
        await _until_answered(watched, 1)
        watched.crash()
        refused = await gateway.post(build("feishu", "two", conversation="c2"))
        assert refused.status == 503
        await _until_accepted(gateway, build("feishu", "three", conversation="c3"))
        await _until_answered(watched, 2)


async def _until_accepted(gateway: Gateway, request: Request) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while (await gateway.post(request)).status != 200:
        assert time.monotonic() < deadline, "the ingress doesn't accept again"
        await asyncio.sleep(0.1)


async def _until_answered(watched: Watched, events: int) -> None:
    counts = BotKeys("feishu", CREDENTIALS[credentials.FEISHU_APP_ID]).counts
    with watched.client(watched.primary()) as client:
        deadline = time.monotonic() + TIMEOUT_S
        while int(client.hget(counts, "answered") or 0) < events:
            assert time.monotonic() < deadline, f"not answered: {client.hgetall(counts)}"
            await asyncio.sleep(0.1)
