"""`make up` and `make down` with the real programs, in a folder whose name has blanks."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from compose.local import processes
from compose.local.problems import StackError
from compose.local.readiness import probe
from compose.local.stack import Stack
from compose.local.state import StackState
from compose.local.supervisor import Supervisor
from shared.config import load_settings
from shared.errors import ConfigError
from tests.redis_server import free_port
from tests.simulator.client import SignedClient
from tests.simulator.credentials import read_env

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

PROJECT = Path(__file__).parents[2]
ROOMS = ("compose", "ingress", "shared", "tests", "workers")
WAIT_S = 60.0


class Local:
    """A stack in a folder of its own, on ports of its own, and what it said."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.run = root / ".run"
        self.ports = {"CLAWDBOT_PORT": free_port(), "UP_FLOWER_PORT": free_port()}
        self.ports["UP_SIMULATOR_PORT"] = free_port()
        self.said: list[str] = []
        for room in ROOMS:
            (root / room).symlink_to(PROJECT / room)

    @property
    def environ(self) -> dict[str, str]:
        loopback = {"CLAWDBOT_HOST": "127.0.0.1"}
        return {**os.environ, **{name: str(port) for name, port in self.ports.items()}, **loopback}

    @property
    def stack(self) -> Stack:
        return Stack(self.root, self.environ, self.said.append)

    @property
    def pids(self) -> dict[str, int]:
        return {state.name: state.pid for state in self.stack.states()}

    def url(self, setting: str) -> str:
        return f"http://127.0.0.1:{self.ports[setting]}"

    def is_ready(self) -> bool:
        all_run = all(state.is_running for state in self.stack.states())
        return all_run and probe(StackState.read(self.root).ready_url)[0] == 200

    def redis(self) -> redis.Redis:
        settings = load_settings(self.environ, cwd=self.root)
        return redis.Redis.from_url(settings.redis.client_url, decode_responses=True)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    """One stack for the tests of this module; each leaves it as it was, the last one stopped."""
    root = tmp_path_factory.mktemp("stack") / "a clone with blanks"
    root.mkdir()
    local = Local(root)
    local.stack.up()
    yield local
    local.stack.down()


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Local]:
    """A stack that is not up."""
    made = Local(tmp_path)
    yield made
    made.stack.down()


def test_stack_is_ready_and_says_what_to_open(up: Local) -> None:
    said = "\n".join(up.said)

    assert up.is_ready()
    assert "Chat (DingTalk and Feishu, simulated)" in said
    for setting in up.ports:
        assert up.url(setting) in said
    status, body = probe(f"{up.url('CLAWDBOT_PORT')}/ready?deep=1")
    assert (status, '"process@' in body, '"push@' in body) == (200, True, True)


def test_files_with_secrets_are_the_owners_alone(up: Local) -> None:
    for name in ("env", "simulator.env", "simulator.seed", "stack.json"):
        assert (up.run / name).stat().st_mode & 0o777 == 0o600


def test_a_message_on_each_platform_is_answered(up: Local) -> None:
    async def chat() -> None:
        credentials = read_env(up.run / "simulator.env")
        urls = up.url("CLAWDBOT_PORT"), up.url("UP_SIMULATOR_PORT")
        async with SignedClient(credentials, *urls) as client, asyncio.timeout(WAIT_S):
            for platform in ("dingtalk", "feishu"):
                status, _ = await client.send(platform, conversation="c1", text="hello")
                assert status == 200
            while (await client.stats())["answered"] < 2:
                await asyncio.sleep(0.1)

    asyncio.run(chat())


def test_worker_in_another_terminal_joins(up: Local) -> None:
    command = [sys.executable, "-m", "celery", "-A", "workers", "worker", "-Q", "process"]
    options = ["-P", "gevent", "-c", "20", "-n", "more@%h"]
    with (up.root / "more.log").open("wb") as log:
        worker = subprocess.Popen(
            [*command, *options], cwd=up.root, env=os.environ, stdout=log, stderr=log
        )
    try:
        ready_url = StackState.read(up.root).ready_url
        joined = processes.wait_for(lambda: '"more@' in probe(ready_url)[1], timeout_s=WAIT_S)
        assert joined, (up.root / "more.log").read_text()
        assert worker.pid not in processes.of_stack(up.run)
    finally:
        worker.terminate()
        worker.wait(WAIT_S)


def test_second_up_changes_nothing_and_says_so(up: Local) -> None:
    before = up.pids
    up.said.clear()

    up.stack.up()

    assert up.pids == before
    assert up.said[0].startswith("it is up already")
    assert up.url("UP_SIMULATOR_PORT") in "\n".join(up.said)


@pytest.mark.parametrize("name", ["ingress", "worker-process", "redis"])
def test_killed_program_comes_back_by_itself(up: Local, name: str) -> None:
    before = up.pids[name]

    os.kill(before, signal.SIGKILL)

    def is_back() -> bool:
        return up.pids[name] not in (0, before) and up.is_ready()

    assert processes.wait_for(is_back, timeout_s=WAIT_S)


def test_stopped_program_is_started_by_the_next_up(up: Local) -> None:
    supervisor = Supervisor(StackState.read(up.root).supervisor_socket)
    supervisor.stop("beat")
    assert not up.is_ready()

    up.stack.up()

    assert up.is_ready()


def test_killed_supervisor_is_healed_by_the_next_up(up: Local) -> None:
    with up.redis() as client:
        client.set("kept", "yes")
    orphans = set(up.pids.values())
    os.kill(int((up.run / "supervisord.pid").read_text()), signal.SIGKILL)

    up.stack.up()

    assert up.is_ready()
    assert processes.living(orphans) == []
    with up.redis() as client:
        assert client.get("kept") == "yes"


def test_down_leaves_no_process_and_keeps_what_redis_holds(up: Local) -> None:
    pids = list(up.pids.values())

    up.stack.down()

    assert processes.living(pids) == []
    assert processes.of_stack(up.run) == []
    assert not (up.run / "env").exists()
    assert list((up.run / "redis").iterdir()) != []
    with pytest.raises(StackError, match="`make up` starts it"):
        up.stack.states()


def test_taken_port_stops_everything_before_it_starts(local: Local) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", local.ports["UP_FLOWER_PORT"]))
        taken.listen(1)

        with pytest.raises(StackError, match=rf"UP_FLOWER_PORT.* pid {os.getpid()} "):
            local.stack.up()

    assert processes.of_stack(local.run) == []
    assert not (local.run / "env").exists()


def test_wrong_setting_is_named_before_anything_starts(local: Local) -> None:
    (local.root / ".env").write_text("CLAWDBOT_POTR=1\n")

    with pytest.raises(ConfigError, match="CLAWDBOT_PORT"):
        local.stack.up()

    assert processes.of_stack(local.run) == []


def test_redis_of_ones_own_that_does_not_answer_is_named(local: Local) -> None:
    (local.root / ".env").write_text(f"CLAWDBOT_REDIS__URL=redis://127.0.0.1:{free_port()}/0\n")

    with pytest.raises(StackError, match=r"CLAWDBOT_REDIS__URL: Redis does not answer"):
        local.stack.up()


def test_program_that_fails_is_shown_and_nothing_is_left_running(local: Local) -> None:
    (local.root / "workers").unlink()
    (local.root / "workers").mkdir()
    (local.root / "workers" / "__init__.py").touch()
    (local.root / "workers" / "celery.py").write_text("raise RuntimeError('broken on purpose')\n")

    with pytest.raises(StackError, match=r"(?s)did not get ready.*log:.*broken on purpose"):
        local.stack.up()

    assert processes.of_stack(local.run) == []
    assert not (local.run / "env").exists()


def test_down_of_what_is_not_up_is_no_fault(local: Local) -> None:
    local.stack.down()

    assert local.said == ["nothing was running"]


@pytest.mark.matrix  # the answer has to take longer than the 10 s that others have to stop in
def test_down_waits_for_an_answer_that_has_begun(local: Local) -> None:
    (local.root / ".env").write_text("CLAWDBOT_TASK_TIMEOUT_S=30\n")
    local.stack.up()

    async def ask() -> None:
        credentials = read_env(local.run / "simulator.env")
        urls = local.url("CLAWDBOT_PORT"), local.url("UP_SIMULATOR_PORT")
        async with SignedClient(credentials, *urls) as client, asyncio.timeout(WAIT_S):
            await client.control("model", {"latency_s": 14})
            await client.send("feishu", conversation="c1", text="hello")
            while not (await client.stats())["model_in_flight"]:
                await asyncio.sleep(0.1)

    asyncio.run(ask())
    local.stack.down()

    assert local.said[-2].startswith("waiting for answers that have begun, ")
    assert '"reply.written"' in (local.run / "logs/worker-process.log").read_text()
