"""Settings change while everything runs: through `clawdbot config` and through the watched file.

On every pool, in every process, within seconds and without a restart. The environment is that of a
pod beside Services called clawdbot-something.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import pytest
import yaml

from tests.e2e.stack import PROCESS, PUSH, Stack, with_concurrency
from tests.e2e.talk import Talk, eventually, new_chat

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

SLOTS = 4
ROUND = 3 * SLOTS  #: questions at once: every process gets some
SOON_S = 30  #: it takes two seconds; a busy machine may take longer
OUR_LOGS = ("ingress", "process", "push")
#: https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
SERVICE_LINKS = {
    "CLAWDBOT_SERVICE_HOST": "10.0.0.1",
    "CLAWDBOT_SERVICE_PORT": "18789",
    "CLAWDBOT_INGRESS_PORT": "tcp://10.0.0.1:18789",
    "CLAWDBOT_INGRESS_SERVICE_HOST": "10.0.0.1",
    "CLAWDBOT_INGRESS_PORT_18789_TCP_ADDR": "10.0.0.1",
    "CLAWDBOT_REDIS_PORT": "tcp://10.0.0.2:6379",
    "CLAWDBOT_REDIS_SERVICE_PORT_REDIS": "6379",
}


class Way(Protocol):
    """How an operator changes settings."""

    async def set(self, values: Mapping[str, str]) -> None:
        """These, and no others."""


class ByCommand:
    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    async def set(self, values: Mapping[str, str]) -> None:
        listed = json.loads(await self._clawdbot("list", "--json"))
        for gone in {row["name"] for row in listed} - values.keys():
            await self._clawdbot("unset", gone)
        for name, value in values.items():
            await self._clawdbot("set", name, value)

    async def _clawdbot(self, *arguments: str) -> str:
        done = await asyncio.to_thread(self._stack.clawdbot, "config", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout


class ByFile:
    def __init__(self, stack: Stack) -> None:
        self._file = stack.directory / "center.yaml"

    async def set(self, values: Mapping[str, str]) -> None:
        tree: dict[str, object] = {}
        for name, value in values.items():
            *groups, last = name.split(".")
            branch = tree
            for group in groups:
                branch = branch.setdefault(group, {})  # type: ignore[assignment]
            branch[last] = value
        made = self._file.with_suffix(".new")
        made.write_text(yaml.safe_dump(tree))
        os.replace(made, self._file)


@pytest.fixture(scope="module", params=["threads", "gevent", "prefork"])
def stack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    workers = [with_concurrency(worker, request.param, SLOTS) for worker in (PROCESS, PUSH)]
    directory: Path = tmp_path_factory.mktemp("live") / "run"
    settings = {"CLAWDBOT_CONFIG_CENTER__FILE": "center.yaml", **SERVICE_LINKS}
    directory.mkdir()
    (directory / "center.yaml").touch()  # nothing starts without it
    with Stack(directory, workers=workers, settings=settings, backup_model=True) as running:
        yield running


@pytest.fixture
async def talk(stack: Stack) -> AsyncIterator[Talk]:
    async with stack.client() as client:
        await client.control("reset")
        await client.control("model", {"latency_s": 0, "tokens": 2, "token_interval_s": 0})
        yield Talk(stack, client)


@pytest.mark.parametrize("way", [ByCommand, ByFile])
async def test_prompt_chain_quota_and_log_level_change_without_a_restart(
    talk: Talk, way: type[ByCommand] | type[ByFile]
) -> None:
    change: Way = way(talk.stack)
    pids = {name: process.pid for name, process in talk.stack.processes.items()}
    assert await asked(talk) == {("model", 1)}

    await change.set({"model.system_prompt": "Be brief.", "model.chain": "backup,default"})
    await eventually(lambda: all_are(talk, ("backup", 2)), SOON_S, "prompt and chain are new")

    await change.set({"feishu.model_chain": "default", "quotas.user.requests_per_day": "1"})
    await eventually(lambda: all_are(talk, ("model", 1)), SOON_S, "the bot's chain is new")
    await eventually(lambda: second_questions_are_refused(talk), SOON_S, "a quota is in force")

    await change.set({"log.level": "WARNING", "port": "1"})
    await eventually(lambda: is_silent(talk), SOON_S, "no process logs what goes well")
    await eventually(lambda: all_say_restart(talk.stack), SOON_S, "each program told of the port")
    assert await asked(talk) == {("model", 1)}
    assert restarts_asked_for(talk.stack) == [1, 1, 1]

    await change.set({})
    await eventually(lambda: logs_again(talk), SOON_S, "all is as before")
    assert pids == {name: process.pid for name, process in talk.stack.processes.items()}
    assert [secret for secret in talk.stack.secrets() if secret in talk.stack.log_text()] == []
    truncate_logs(talk.stack)


async def asked(talk: Talk) -> set[tuple[str, int]]:
    """Many ask at once: which models were called, with how many messages in their prompt."""
    chats = [new_chat("feishu") for _ in range(ROUND)]
    said = [talk.say("feishu", f"hello {chat}", chat=chat, sender=chat) for chat in chats]
    await asyncio.gather(*said)
    await talk.at_rest()
    words = {f"hello {chat}" for chat in chats}
    calls = [c for c in await talk.client.ledger() if c["kind"] == "model" and c["text"] in words]
    assert len(calls) >= ROUND
    return {(call["name"], call["messages"]) for call in calls}


async def all_are(talk: Talk, call: tuple[str, int]) -> bool:
    return await asked(talk) == {call}


async def second_questions_are_refused(talk: Talk) -> bool:
    chats = [new_chat("feishu") for _ in range(ROUND)]
    for word in ("first", "second"):
        said = [talk.say("feishu", f"{word} {c}", chat=c, sender=c) for c in chats]
        await asyncio.gather(*said)
        await talk.at_rest()
    texts = [await talk.texts(chat) for chat in chats]
    return all("limit of questions for today" in lines[-1] for lines in texts)


async def is_silent(talk: Talk) -> bool:
    """Whether a round of questions leaves no line at INFO, in any process."""
    before = info_lines(talk.stack)
    await asked(talk)
    return info_lines(talk.stack) == before


async def logs_again(talk: Talk) -> bool:
    before = info_lines(talk.stack)
    await asked(talk)
    return all(
        now >= then + ROUND for now, then in zip(info_lines(talk.stack), before, strict=True)
    )


def info_lines(stack: Stack) -> list[int]:
    logs = (stack[name].log.read_text("utf-8") for name in OUR_LOGS)
    return [text.count('"level":"INFO"') for text in logs]


async def all_say_restart(stack: Stack) -> bool:
    return all(restarts_asked_for(stack))


def restarts_asked_for(stack: Stack) -> list[int]:
    """How often each program said that a setting needs a restart."""
    logs = (stack[name].log.read_text("utf-8") for name in OUR_LOGS)
    return [text.count("config.restart_needed") for text in logs]


def truncate_logs(stack: Stack) -> None:
    """The next test counts lines, too."""
    for name in OUR_LOGS:
        os.truncate(stack[name].log, 0)
