"""(d) How the cost of a message grows: with lanes that wait, with history, with bots."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from shared.state.keys import BotKeys
from tests.bench.backlog import fill
from tests.bench.builds import WARM_UP, Gateway, Setup, settle, warm_up
from tests.bench.flow import Flow, Meter, measure, middle
from tests.bench.load import shoot
from tests.bench.scale import Scale
from tests.bench.world import World, new_conversations
from tests.simulator import credentials

SETUP = Setup("threads", 16)
HOLD_S = 3.0  #: the model's latency while the workers start, so that they leave the backlog alone
WORDS = "An earlier thing that was said in this conversation, of about the usual length. " * 2


def waiting_lanes(world: World, scale: Scale) -> list[dict[str, Any]]:
    """Messages accepted, then answered, while so many others wait in lanes of their own."""
    flows: dict[int, list[Flow]] = {lanes: [] for lanes in scale.backlogs}
    for _ in range(scale.rounds):
        for lanes, done in flows.items():
            done.append(_with_backlog(world, lanes, scale.messages // 2))
    rows = [{"waiting_lanes": lanes, **middle(done)} for lanes, done in flows.items()]
    for row in rows:
        del row["peak_mib"]  # not looked at
    return rows


def _with_backlog(world: World, lanes: int, messages: int) -> Flow:
    """A feeder that keeps a backlog's length would be measured, too: so first in, then out.

    As many messages again wait behind those that are measured: the process stage is ahead of the
    push stage at the end as it is at the beginning, so that neither's part is left out.
    """
    gateway = Gateway(world)
    conversations = new_conversations("w")
    requests = world.requests(conversations, WARM_UP + 2 * messages)
    before = world.replies() + WARM_UP
    world.redis.flushall()
    try:
        gateway.start_ingress()
        fill(gateway.environment, world.directory, list(islice(conversations, lanes)))
        meter = Meter(world, gateway)
        shoot(gateway.port, requests).must_be_accepted()
        accepting_ms = meter.per_message_ms(len(requests))

        world.set_latency(HOLD_S)
        gateway.start_workers(SETUP)
        world.set_latency(0)
        world.replies(before)
        meter, started = Meter(world, gateway), time.monotonic()
        answered, seconds = world.replies(before + messages) - before, time.monotonic() - started
        answering_ms = meter.per_message_ms(answered)
    finally:
        world.set_latency(0)
        gateway.stop()
    both = {name: ms + accepting_ms.get(name, 0) for name, ms in answering_ms.items()}
    return Flow(answered, seconds, both, 0.0)


def histories(world: World, scale: Scale) -> list[dict[str, Any]]:
    """Messages of conversations that remember so many turns; nothing is forgotten."""
    gateway = Gateway(
        world,
        CLAWDBOT_CONVERSATION__TURNS=str(max(scale.histories)),
        CLAWDBOT_CONVERSATION__MAX_BYTES="1000000",
    )
    flows: dict[int, list[Flow]] = {turns: [] for turns in scale.histories}
    try:
        gateway.start(SETUP)
        warm_up(world, gateway)
        for _ in range(scale.rounds):
            for turns, done in flows.items():
                names = list(islice(new_conversations("h"), scale.messages // 2))
                _remember(world, names, turns)
                done.append(measure(world, gateway, world.requests(iter(names), len(names))))
    finally:
        gateway.stop()
    return [{"turns": turns, **middle(done)} for turns, done in flows.items()]


def _remember(world: World, conversations: list[str], turns: int) -> None:
    bot = BotKeys("feishu", world.credentials[credentials.FEISHU_APP_ID])
    turn = [f"u{WORDS}", f"a{WORDS}"]  # as `workers/conversation.py` stores them
    if not turns:
        return
    with world.redis.pipeline(transaction=False) as pipe:
        for name in conversations:
            pipe.rpush(f"{bot.conversation(name)}:history", *turn * turns)
        pipe.execute()


def bots(world: World, scale: Scale) -> list[dict[str, Any]]:
    """The same messages spread over so many Feishu bots, from a YAML file."""
    flows: dict[int, list[Flow]] = {count: [] for count in scale.bots}
    for _ in range(scale.rounds):
        for count, done in flows.items():
            done.append(_with_bots(world, count, scale))
    return [{"bots": count, **middle(done)} for count, done in flows.items()]


def _with_bots(world: World, count: int, scale: Scale) -> Flow:
    made = {
        f"bot{number}": credentials.complete({}, ("feishu",), world.upstream_url)
        for number in range(count)
    }
    config = world.directory / f"bots-{count}.yaml"
    _write_config(config, made)
    gateway = Gateway(world, CLAWDBOT_CONFIG=str(config))
    try:
        gateway.start(SETUP)
        warm_up(world, gateway)
        conversations = new_conversations("m")
        _post(world, gateway, made, conversations, count)  # every bot fetches its token
        settle(gateway)
        requests = _spread(world, made, conversations, scale.messages)
        return measure(world, gateway, requests)
    finally:
        gateway.stop()


def _post(
    world: World,
    gateway: Gateway,
    made: dict[str, dict[str, str]],
    conversations: Iterator[str],
    messages: int,
) -> None:
    before = world.replies()
    shoot(gateway.port, _spread(world, made, conversations, messages)).must_be_accepted()
    world.replies(before + messages)


def _spread(
    world: World, made: dict[str, dict[str, str]], conversations: Iterator[str], messages: int
) -> list[bytes]:
    names = list(made)
    return [
        world.request(next(conversations), made[name], path=f"/feishu/webhook/{name}")
        for name in (names[number % len(names)] for number in range(messages))
    ]


def _write_config(path: Path, made: dict[str, dict[str, str]]) -> None:
    prefix = "CLAWDBOT_FEISHU__"
    blocks = {
        name: {
            "platform": "feishu",
            **{key.removeprefix(prefix).lower(): value for key, value in values.items()},
        }
        for name, values in made.items()
    }
    path.write_text(yaml.safe_dump({"bots": blocks}), "utf-8")
