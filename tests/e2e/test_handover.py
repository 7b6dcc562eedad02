"""SIGTERM under load: running work is finished, the rest is handed over, nothing is done twice."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest

from tests.e2e.stack import PROCESS, PUSH, Stack, Worker, with_concurrency
from tests.e2e.talk import Talk, eventually, new_chat

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

CHATS = 40
ROUNDS = 4


@pytest.fixture(params=["threads", "gevent", "prefork"])
async def talk(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Talk]:
    pool = request.param
    workers = [with_concurrency(PROCESS, pool, 12), with_concurrency(PUSH, pool, 4)]
    directory = tmp_path_factory.mktemp(pool) / "run"
    with Stack(directory, workers=workers) as stack:
        async with stack.client() as client:
            yield Talk(stack, client)


async def test_stopping_the_workers_under_load_loses_and_repeats_nothing(talk: Talk) -> None:
    await talk.pace(latency_s=0.5)
    await talk.fault("feishu.reply", "slow", delay_s=0.2, times=0)
    await talk.fault("dingtalk.session", "slow", delay_s=0.2, times=0)
    chats = [new_chat(platform) for _ in range(CHATS // 2) for platform in ("dingtalk", "feishu")]

    async def talks(chat: str) -> None:
        for number in range(ROUNDS):
            platform = "feishu" if chat.startswith("oc_") else "dingtalk"
            await talk.say(platform, f"{chat} number {number}.", chat=chat)

    await asyncio.gather(*map(talks, chats))
    for name in ("process", "push"):
        await eventually(lambda: _is_busy(talk), 20, "model and pushes are under way")
        await asyncio.to_thread(talk.stack[name].stop)
        talk.stack[name].start()
    await talk.at_rest()
    stats = await talk.client.stats()

    assert set(stats["answers"].values()) == {1}
    assert len(stats["answers"]) == CHATS * ROUNDS
    assert (stats["model_calls"], stats["duplicates"], stats["repeats"]) == (CHATS * ROUNDS, 0, 0)
    assert talk.stack.redis.hlen("clawdbot:workers") >= 2
    for chat in chats:
        asked = [text.split(".")[0].rpartition(" ")[2] for text in await talk.texts(chat)]
        assert asked == [str(number) for number in range(ROUNDS)]


def test_a_worker_ends_although_a_child_of_its_pool_does_not(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    both = Worker("both", "process,push", "prefork", 2)
    with Stack(tmp_path_factory.mktemp("stuck") / "run", workers=[both]) as stack:
        os.kill(stack["both"].children()[0], signal.SIGSTOP)  # it takes no word to end

        ended_by_itself = stack["both"].stop()

        assert ended_by_itself
        assert stack["both"].log.read_text().count("child.stuck") == 1


async def _is_busy(talk: Talk) -> bool:
    stats = await talk.client.stats()
    return bool(stats["model_in_flight"] and stats["answered"] > 0)
