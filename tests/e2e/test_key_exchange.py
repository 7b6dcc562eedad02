"""Bots whose models want keys that a cloud gives for an AccessKey pair: people just get answers.

DingTalk's bot asks a model with `auth: baidu`, Feishu's one with `auth: volcengine`.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest

from shared.state.keys import RingKeys
from tests.e2e.model_cases import ANSWER
from tests.e2e.stack import PROCESS, PUSH, Stack, Worker
from tests.e2e.talk import Talk, new_chat
from tests.simulator.key_desk import key_name

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

CHATS = 20
SLOW_S = 0.5  #: of an exchange: the messages of all slots come while it is made
MODEL = "clawdbot-demo"  #: the simulator's; with Volcengine the key is good for no other
MINUTE_MS = 60_000


@dataclass(frozen=True)
class Cloud:
    """target: its exchange in the simulator. model: as the settings name it. pair: id, secret."""

    platform: str
    target: str
    model: str
    pair: tuple[str, str]


CLOUDS = {
    "baidu": Cloud("dingtalk", "baidu.token", "default", ("ALTAKe2e", secrets.token_hex(16))),
    "volcengine": Cloud("feishu", "volcengine.key", "ark", ("AKLTe2e", secrets.token_hex(16))),
}
SETTINGS = {
    "CLAWDBOT_RETRY__PROCESS_LIMIT_S": "0",  # nothing is answered because it was tried again
    "CLAWDBOT_MODEL__AUTH": "baidu",
    "CLAWDBOT_MODEL__AUTH_ENDPOINT": "{simulator}/baidu",
    "CLAWDBOT_AK_ID": CLOUDS["baidu"].pair[0],
    "CLAWDBOT_AK_SECRET": CLOUDS["baidu"].pair[1],
    "CLAWDBOT_MODELS__ARK__ENDPOINT": "{simulator}/model/v1",
    "CLAWDBOT_MODELS__ARK__NAME": MODEL,
    "CLAWDBOT_MODELS__ARK__AUTH": "volcengine",
    "CLAWDBOT_MODELS__ARK__AUTH_ENDPOINT": "{simulator}/volcengine",
    "CLAWDBOT_MODELS__ARK__RESOURCE_IDS": MODEL,
    "CLAWDBOT_MODELS__ARK__AK_ID": CLOUDS["volcengine"].pair[0],
    "CLAWDBOT_MODELS__ARK__AK_SECRET": CLOUDS["volcengine"].pair[1],
    "CLAWDBOT_FEISHU__MODEL_CHAIN": "ark",
}


@pytest.fixture(scope="module")
def exchanging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two processes call the models: a key is shared by more than the threads of one."""
    directory = tmp_path_factory.mktemp("exchange") / "run"
    workers = [PROCESS, Worker("process2", "process"), PUSH]
    with Stack(directory, workers=workers, settings=SETTINGS) as stack:
        yield stack


@pytest.fixture
async def talk(exchanging: Stack) -> AsyncIterator[Talk]:
    async with exchanging.client() as client:
        await client.control("reset")
        await client.control("model", {"latency_s": 0, "tokens": 4, "token_interval_s": 0})
        await client.control("keys", {"pairs": dict(cloud.pair for cloud in CLOUDS.values())})
        yield Talk(exchanging, client)


@pytest.mark.parametrize("cloud", CLOUDS.values(), ids=list(CLOUDS))
async def test_people_are_answered_with_keys_that_are_exchanged_when_they_have_to_be(
    cloud: Cloud, talk: Talk
) -> None:
    before = await exchanges(talk)
    await talk.fault(cloud.target, "slow", times=0, delay_s=SLOW_S)
    chats = {new_chat(cloud.platform): f"问题 {number}？" for number in range(CHATS)}

    await asyncio.gather(
        *(talk.say(cloud.platform, text, chat=chat) for chat, text in chats.items())
    )
    await talk.at_rest()

    for chat, text in chats.items():
        assert await talk.texts(chat) == [ANSWER.format(text=text)]
    keys = await used_keys(talk)
    assert len(keys) == 1, "all came with the key that was given for the pair"
    assert key_name(cloud.pair[1]) not in keys
    assert await exchanges(talk) - before == 1

    await withdraw_key(talk, cloud)
    (read,) = await talk.ask(cloud.platform, "后一个问题")

    assert read == ANSWER.format(text="后一个问题"), "without a word about the key"
    assert len(await used_keys(talk)) == 2
    assert await exchanges(talk) - before == 2
    assert cloud.pair[1] not in talk.stack.log_text()


async def withdraw_key(talk: Talk, cloud: Cloud) -> None:
    """What the cloud gave is refused from now on, and is old enough to be doubted for that."""
    (key,) = talk.stack.redis.scan_iter(RingKeys(cloud.model).bearer("*"), _type="HASH")
    talk.stack.redis.hincrby(key, "fetched", -MINUTE_MS)
    await talk.client.control("keys", {"expire": True})


async def exchanges(talk: Talk) -> int:
    """How many pairs the clouds have exchanged so far."""
    return int((await talk.client.control("keys", method="GET"))["exchanges"])


async def used_keys(talk: Talk) -> set[str]:
    """The names of the keys of all calls that the model let in."""
    return {record["key"] for record in await talk.client.ledger() if record["kind"] == "model"}
