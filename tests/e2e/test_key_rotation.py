"""A rotation under load: the keys are swapped and the old one is revoked while people wait."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.e2e.checks import check_balance, counters
from tests.e2e.stack import PROCESS, PUSH, Stack, Worker, with_concurrency
from tests.e2e.talk import Talk, eventually, new_chat
from tests.simulator.key_desk import key_name

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

EVENTS = 400
IN_FLIGHT = 200  #: at least so many wait, or are being answered, when the old key is revoked
CHATS = 100
SLOTS = 6  #: of each of two workers
LATENCY_S = 2.0  #: 12 slots answer 6 a second: 200 take 33 s, a rotation a few
MASTER = {"CLAWDBOT_MASTER_KEY": "a master key of the end-to-end tests"}


@pytest.fixture(params=["threads", "gevent", "prefork"])
async def talk(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Talk]:
    workers = [
        with_concurrency(PROCESS, request.param, SLOTS),
        Worker("process2", "process", request.param, SLOTS),
        PUSH,
    ]
    directory = tmp_path_factory.mktemp("rotation") / "run"
    with Stack(directory, workers=workers, settings=MASTER) as stack:
        async with stack.client() as client:
            yield Talk(stack, client)


async def test_a_rotation_under_load_loses_and_repeats_nothing(talk: Talk) -> None:
    first, old, new = talk.stack.credentials["CLAWDBOT_AK_SECRET"], new_key(), new_key()
    await accept(talk, add=[old])
    await clawdbot(talk, "rotate", pair=old)
    await accept(talk, revoke=[first])
    await accept(talk, add=[new])
    await talk.pace(latency_s=LATENCY_S)
    before = counters(talk.stack)

    chats = [new_chat(platform) for _ in range(CHATS // 2) for platform in ("dingtalk", "feishu")]
    await asyncio.gather(*(talks(talk, chat) for chat in chats))
    await eventually(lambda: is_busy(talk), 30, "calls with the old key are under way")
    await clawdbot(talk, "rotate", pair=new)
    await accept(talk, revoke=[old])
    in_flight = talk.stack.in_flight()
    await eventually(lambda: is_used(talk, new), 30, "calls with the new key are answered")
    await talk.pace(latency_s=0)  # what is left shows nothing more
    await talk.at_rest(90)

    print(f"in flight at the revocation: {in_flight}")
    assert in_flight >= IN_FLIGHT, "the old key was revoked under load"
    stats = await talk.client.stats()
    assert set(stats["answers"].values()) == {1}
    assert len(stats["answers"]) == EVENTS
    assert (stats["duplicates"], stats["repeats"], stats["unanswered"]) == (0, 0, 0)
    calls = await answered_calls(talk)
    assert len(calls) == EVENTS
    assert set(Counter(calls)) == {key_name(old), key_name(new)}
    check_balance(talk.stack, EVENTS, before)
    states = [row["state"] for row in json.loads(await clawdbot(talk, "list", "--json"))]
    assert states == ["active", "replaced", "replaced", "settings"]
    assert [key for key in (first, old, new) if key in talk.stack.log_text()] == []


async def talks(talk: Talk, chat: str) -> None:
    platform = "feishu" if chat.startswith("oc_") else "dingtalk"
    for number in range(EVENTS // CHATS):
        await talk.say(platform, f"{chat} number {number}.", chat=chat)


async def is_busy(talk: Talk) -> bool:
    stats = await talk.client.stats()
    return bool(stats["model_in_flight"] >= SLOTS and stats["answered"])


async def is_used(talk: Talk, key: str) -> bool:
    return key_name(key) in await answered_calls(talk)


async def answered_calls(talk: Talk) -> list[str]:
    """The names of the keys of all calls that were let in, without those of `clawdbot keys`."""
    records: list[dict[str, Any]] = await talk.client.ledger()
    return [r["key"] for r in records if r["kind"] == "model" and r["text"] != "ping"]


async def accept(talk: Talk, **changes: list[str]) -> None:
    """Let the model accept or refuse keys from now on."""
    await talk.client.control("keys", changes)


async def clawdbot(talk: Talk, command: str, *more: str, pair: str = "") -> str:
    arguments = ["keys", command, *more]
    if pair:
        file = talk.stack.directory / "new-pair.json"
        file.write_text(json.dumps({"akId": "AK", "akSecret": pair}))
        arguments += ["--file", str(file)]
    done = await asyncio.to_thread(talk.stack.clawdbot, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not pair or pair not in done.stdout + done.stderr
    return done.stdout


def new_key() -> str:
    return f"sk-{secrets.token_hex(16)}"
