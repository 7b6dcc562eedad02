"""Kills under load: who is killed when, what ran at that moment, and people who keep talking."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from dataclasses import dataclass, field
from typing import Any

from tests.e2e.processes import wait_until
from tests.e2e.stack import Stack
from tests.e2e.talk import new_chat
from tests.simulator.client import SignedClient

REDELIVER_AFTER_S = 0.3
FORK_TIMEOUT_S = 20  #: a worker that was itself killed a moment ago has no children yet
SLACK_S = 1.0  #: between the end of a call and its record in Redis, on a busy machine


@dataclass(frozen=True, slots=True)
class Kill:
    """One `kill -9`. at: Unix seconds; nothing new is claimed of a dead Redis or by the dead."""

    victim: str
    at: float

    def hits(self, began: float, ended: float) -> bool:
        """Whether something that ran from `began` to `ended` may have been cut short."""
        return began <= self.at + SLACK_S and ended >= self.at - SLACK_S


class Killer:
    """Kills in a random order that the seed decides, one every `pause_s` seconds."""

    def __init__(self, stack: Stack, *, seed: str, pause_s: float) -> None:
        self._stack = stack
        self._random = random.Random(seed)
        self._pause_s = pause_s
        self.kills: list[Kill] = []

    async def run(self, victims: list[str]) -> None:
        """Kill them all. `<worker>:child` is one forked child, `redis` comes back after 1 s."""
        order = self._random.sample(victims, len(victims))
        for victim in order:
            await asyncio.to_thread(self._kill, victim)
            await asyncio.sleep(self._pause_s)

    def of(self, *victims: str) -> list[Kill]:
        return [kill for kill in self.kills if kill.victim in victims]

    def _kill(self, victim: str) -> None:
        name, _, part = victim.partition(":")
        children = (
            [] if not part else wait_until(self._stack[name].children, FORK_TIMEOUT_S, victim)
        )
        self.kills.append(Kill(victim, time.time()))
        if name == "redis":
            self._stack.crash_redis()
            time.sleep(1)
            self._stack.redis_server.start()
        elif part:
            os.kill(self._random.choice(children), signal.SIGKILL)
        else:
            self._stack[name].kill()


@dataclass
class Crowd:
    """People who write one message after another, each in a conversation of their own.

    What is not acknowledged is sent again until it is, as Feishu does: so the order of acceptance
    is the order of the numbers.
    """

    client: SignedClient
    chats: list[str] = field(default_factory=list)
    accepted: dict[str, list[str]] = field(default_factory=dict)  #: chat → message ids, in order
    refusals: int = 0

    def gather(self, people: int) -> None:
        self.chats = [new_chat(("dingtalk", "feishu")[n % 2]) for n in range(people)]
        self.accepted = {chat: [] for chat in self.chats}

    @property
    def events(self) -> int:
        return sum(map(len, self.accepted.values()))

    async def write(self, rounds: int) -> None:
        """Everybody writes `rounds` messages, without waiting for answers."""
        await asyncio.gather(*(self._write(chat, rounds) for chat in self.chats))

    async def keep_writing(self, stop: asyncio.Event, *, pause_s: float) -> None:
        """Everybody writes now and then until `stop`."""
        while not stop.is_set():
            await self.write(1)
            await asyncio.sleep(pause_s)

    async def _write(self, chat: str, rounds: int) -> None:
        for _ in range(rounds):
            text = f"{chat} number {len(self.accepted[chat]):03d}."
            platform = "feishu" if chat.startswith("oc_") else "dingtalk"
            status, message_id = await self.client.send(platform, conversation=chat, text=text)
            while status != 200:
                self.refusals += 1
                await asyncio.sleep(REDELIVER_AFTER_S)
                status = await self.client.redeliver(message_id)
            self.accepted[chat].append(message_id)


def cut_short(
    kills: list[Kill], calls: list[dict[str, Any]], *, slots: int, lasting_s: float = 0
) -> int:
    """How many of `calls` the kills may have cut short.

    slots: how many can run at once, so how many one kill can cut at most.
    lasting_s: how long a call lasts that has no end of its own in the ledger.
    """
    spans = [(call["at"], call.get("ended_at") or call["at"] + lasting_s) for call in calls]
    return sum(min(slots, sum(kill.hits(*span) for span in spans)) for kill in kills)
