"""What people see when nothing goes wrong: one answer each, in order, whole, harmless."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from tests.e2e.stack import Stack, Worker
from tests.e2e.talk import Talk, deliver, eventually, new_chat
from tests.simulator.client import SignedClient

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

MAX_ROUND_TRIPS = 10
BURST_EVENTS = 5000


@pytest.mark.parametrize("group", [False, True], ids=["alone", "in a group"])
@pytest.mark.parametrize("platform", ["dingtalk", "feishu"])
async def test_a_message_is_answered(talk: Talk, platform: str, group: bool) -> None:
    texts = await talk.ask(platform, "什么是向量数据库？", group=group)

    assert texts == ["你说：什么是向量数据库？\n（演示模型的回答，这是我们的第一轮对话。）"]


async def test_the_model_is_reminded_of_the_conversation(talk: Talk) -> None:
    chat = new_chat("feishu")
    for text in ("first", "second"):
        await talk.say("feishu", text, chat=chat)
        await talk.at_rest()

    assert "I remember 1 earlier turn" in (await talk.texts(chat))[1]


@pytest.mark.parametrize("platform", ["dingtalk", "feishu"])
async def test_a_storm_of_duplicates_is_answered_once(talk: Talk, platform: str) -> None:
    chat = new_chat(platform)
    message_id = await talk.say(platform, "only once", chat=chat)
    again = [talk.client.redeliver(message_id) for _ in range(40)]
    renamed = [talk.client.redeliver(message_id, event_id=f"ev{n}-{chat}") for n in range(40)]

    statuses = await asyncio.gather(*again, *renamed)
    await talk.at_rest()
    late = await talk.client.redeliver(message_id)
    await talk.at_rest()

    assert {*statuses, late} == {200}
    assert len(await talk.sends(chat)) == 1
    assert len(await talk.model_calls("only once")) == 1


@pytest.mark.parametrize("platform", ["dingtalk", "feishu"])
async def test_a_conversation_keeps_its_order_among_others(talk: Talk, platform: str) -> None:
    await talk.pace(latency_s=0.05)
    chats = [new_chat(platform) for _ in range(8)]

    async def talks(chat: str) -> None:
        for number in range(12):
            await talk.say(platform, f"{chat} number {number:02d}.", chat=chat)

    await asyncio.gather(*map(talks, chats))
    await talk.at_rest()

    for chat in chats:
        texts = await talk.texts(chat)
        asked = [text.removeprefix("You said: ").partition(".")[0] for text in texts]
        assert asked == [f"{chat} number {number:02d}" for number in range(12)]


@pytest.mark.parametrize("platform", ["dingtalk", "feishu"])
async def test_a_long_answer_comes_in_parts_and_in_order(talk: Talk, platform: str) -> None:
    lines = [f"line {number:04d} of a long answer" for number in range(2000)]
    await talk.fault("model", "long", answer_text="\n".join(lines))

    texts = await talk.ask(platform, "tell me everything")

    assert len(texts) > 1
    assert "\n".join(texts).split("\n") == lines


@pytest.mark.parametrize(
    ("platform", "mention"),
    [
        ("feishu", '<at user_id="all">everyone</at>'),
        ("feishu", "< AT user_id='ou_1'>boss</at>"),
        ("dingtalk", "@all wake up"),
        ("dingtalk", "@所有人 wake up"),
    ],
)
async def test_the_model_can_not_mention_anyone(talk: Talk, platform: str, mention: str) -> None:
    await talk.fault("model", "long", answer_text=f"Hello {mention}!")

    (text,) = await talk.ask(platform, "say hello to all")

    assert text.startswith("Hello ")
    assert mention not in text
    assert "<at" not in text.lower().replace(" ", "")
    assert "@all" not in text
    assert "@所有人" not in text


@pytest.mark.parametrize(("platform", "bot"), [("feishu", "sales"), ("dingtalk", "careful")])
async def test_a_named_bot_answers_for_itself(
    talk: Talk, stack: Stack, platform: str, bot: str
) -> None:
    chat = new_chat(platform)
    async with SignedClient(stack.more_credentials, stack.ingress_url, stack.more_url) as client:
        await client.control("reset")
        request = client.build(platform, conversation=chat, text="your price?")
        ack = await deliver(stack, request, bot=bot)
        refused = await deliver(stack, request)
        unknown = await deliver(stack, request, bot="nobody")
        await talk.at_rest()
        told = await client.ledger()

    assert (ack.status, refused.status, unknown.status) == (200, 401, 404)
    assert [r["text"] for r in told if r["kind"] == "send" and r["outcome"] == "visible"] == [
        "You said: your price?\n(The demo model is answering; this is our first turn.)"
    ]


async def test_a_message_needs_few_round_trips_to_redis(talk: Talk, stack: Stack) -> None:
    await talk.ask("feishu", "warm up")
    with Monitor(stack) as monitor:
        await talk.ask("feishu", "count me")

    calls = monitor.calls()
    assert calls, "the monitor saw nothing"
    assert len(calls) <= MAX_ROUND_TRIPS, "\n".join(calls)


async def test_a_stock_second_worker_joins_and_helps(talk: Talk, stack: Stack) -> None:
    helper = stack.add_worker(Worker("helper", "process", "gevent", 200))
    try:
        await eventually(lambda: _is_listed(stack, "helper@"), 20, "the helper is in /ready")
        await talk.pace(latency_s=1)
        chats = [new_chat("feishu") for _ in range(120)]
        await asyncio.gather(*(talk.say("feishu", f"{c}: help?", chat=c) for c in chats))
        await talk.at_rest()
        stats = await talk.client.stats()
    finally:
        helper.stop()

    assert stats["unanswered"] == 0
    assert stats["duplicates"] == 0
    assert stats["model_in_flight_peak"] > 40, "the first worker alone has 16 slots"


@pytest.mark.timeout(180)
async def test_five_thousand_messages_at_once_are_all_answered(stack: Stack, talk: Talk) -> None:
    await talk.pace(tokens=1)
    chats = [new_chat(platform) for _ in range(500) for platform in ("dingtalk", "feishu")]

    connections = asyncio.Semaphore(100)  # the client's own; waiting for one counts as silence

    async def say(number: int) -> str:
        chat = chats[number % len(chats)]
        platform = "feishu" if chat.startswith("oc_") else "dingtalk"
        async with connections:
            return await talk.say(platform, f"{chat} no {number}.", chat=chat)

    message_ids = await asyncio.gather(*map(say, range(BURST_EVENTS)))
    await talk.at_rest(timeout_s=120)
    stats = await talk.client.stats()

    assert len(message_ids) == BURST_EVENTS
    assert stats["answers"] == dict.fromkeys(message_ids, 1)
    assert stats["model_calls"] == BURST_EVENTS
    assert [bot["imbalance"] for bot in stack.census().values()] == [0, 0, 0, 0]


async def _is_listed(stack: Stack, name: str) -> bool:
    _, body = stack.ready()
    return any(worker.startswith(name) for worker in body["workers"]["process"])


class Monitor:
    """What clients ask of Redis while the block runs, from the first claim to the last settling.

    Left out: what the commands of scripts do, and what goes on without any message (heartbeat,
    sweeper and its other duties, waiting for hints, probes).
    """

    _IDLE = (
        *("BRPOP", "TIME", "PING", "INFO", "CLIENT", "HELLO", "SELECT", "SCRIPT", "ECHO"),
        *("PUBLISH", "ZCARD CLAWDBOT:DUE"),
    )
    _IDLE_KEYS = (
        *("clawdbot:workers ", "clawdbot:sweeper ", "clawdbot:waiting ", "clawdbot:keys:"),
        *("clawdbot:probe ", "clawdbot:config ", ":dead "),
    )

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._seen: list[dict[str, Any]] = []
        self._is_listening = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Monitor:
        self._thread.start()
        assert self._is_listening.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.redis.echo("monitored")
        self._thread.join(10)

    def calls(self) -> list[str]:
        told = [c["command"] for c in self._seen if c["client_type"] != "lua"]
        claims = [n for n, command in enumerate(told) if _names_lane(command)]
        return [command for command in told[claims[0] :] if not self._is_idle(command)]

    def _is_idle(self, command: str) -> bool:
        return command.upper().startswith(self._IDLE) or any(
            k in f"{command} " for k in self._IDLE_KEYS
        )

    def _listen(self) -> None:
        with self._stack.redis_server.client() as client, client.monitor() as monitor:
            self._is_listening.set()
            for command in monitor.listen():
                if command["command"].endswith("monitored"):
                    return
                self._seen.append(command)


def _names_lane(command: str) -> bool:
    return command.upper().startswith("EVALSHA") and ":inbox" in command
