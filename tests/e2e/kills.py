"""Blows under load: who is hit when, what ran at that moment, and people who keep talking."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from tests.e2e.processes import wait_until
from tests.e2e.stack import Stack
from tests.e2e.talk import new_chat
from tests.simulator.client import SignedClient

REDELIVER_AFTER_S = 0.3
FORK_TIMEOUT_S = 20  #: a worker that was itself killed a moment ago has no children yet
FREEZE_S = 8.0
SLACK_S = 1.0  #: between the end of a call and its record in Redis, on a busy machine


@dataclass(frozen=True, slots=True)
class Kill:
    """One blow. at, until: Unix seconds; nothing new is claimed of a dead Redis or by the dead.

    events, conversations: in flight a moment before (0 where nobody looked).
    """

    victim: str
    at: float
    until: float
    events: int = 0
    conversations: int = 0

    def hits(self, began: float, ended: float, slack_s: float = SLACK_S) -> bool:
        """Whether something that ran from `began` to `ended` may have been cut short."""
        return began <= self.until + slack_s and ended >= self.at - slack_s


class Killer:
    """Strikes in a random order that the seed decides, one blow every `pause_s` seconds.

    A victim is the name of a process (`kill -9`), or

    - `<worker>:child`: one process that the worker forked (`kill -9`)
    - `<worker>:stop`: SIGTERM; when it has ended it is started again
    - `redis`: `kill -9`, started again 1 s later
    - `redis:cut`: every connection of every client (`CLIENT KILL`)
    - `redis:freeze`: SIGSTOP for `FREEZE_S`

    prepare: awaited before each blow; what it returns is written down with it (`Kill.events`,
        `Kill.conversations`).
    """

    def __init__(
        self,
        stack: Stack,
        *,
        seed: str,
        pause_s: float,
        prepare: Callable[[], Awaitable[tuple[int, int]]] | None = None,
    ) -> None:
        self._stack = stack
        self._random = random.Random(seed)
        self._pause_s = pause_s
        self._prepare = prepare
        self.kills: list[Kill] = []
        self.hung: list[str] = []  #: told to stop, they had to be killed

    async def run(self, victims: list[str]) -> None:
        """Strike them all."""
        order = self._random.sample(victims, len(victims))
        for victim in order:
            await asyncio.sleep(self._random.uniform(0, self._pause_s / 2))
            load = await self._prepare() if self._prepare else (0, 0)
            await asyncio.to_thread(self._strike, victim, load)
            await asyncio.sleep(self._pause_s / 2)

    def of(self, *victims: str) -> list[Kill]:
        return [kill for kill in self.kills if kill.victim in victims]

    def _strike(self, victim: str, load: tuple[int, int]) -> None:
        name, _, how = victim.partition(":")
        children = (
            wait_until(self._stack[name].children, FORK_TIMEOUT_S, victim) if how == "child" else []
        )
        at = time.time()
        if name == "redis":
            self._strike_redis(how)
        elif how == "child":
            os.kill(self._random.choice(children), signal.SIGKILL)
        elif how == "stop":
            if not self._stack[name].stop():
                self.hung.append(name)
                victim = name  # what it had is cut short, as by any kill
            self._stack[name].start()
        else:
            self._stack[name].kill()
        self.kills.append(Kill(victim, at, time.time(), *load))

    def _strike_redis(self, how: str) -> None:
        if how == "cut":
            for kind in ("normal", "pubsub"):
                self._stack.redis.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        elif how == "freeze":
            self._stack.redis_server.send_signal(signal.SIGSTOP)
            time.sleep(FREEZE_S)
            self._stack.redis_server.send_signal(signal.SIGCONT)
        else:
            self._stack.crash_redis()
            time.sleep(1)
            self._stack.redis_server.start()


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
    _writing: dict[str, asyncio.Lock] = field(default_factory=dict)

    def gather(self, people: int) -> None:
        self.chats = [new_chat(("dingtalk", "feishu")[n % 2]) for n in range(people)]
        self.accepted = {chat: [] for chat in self.chats}
        self._writing = {chat: asyncio.Lock() for chat in self.chats}

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
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause_s)

    async def _write(self, chat: str, rounds: int) -> None:
        for _ in range(rounds):
            async with self._writing[chat]:
                await self._write_one(chat)

    async def _write_one(self, chat: str) -> None:
        text = f"{chat} number {len(self.accepted[chat]):03d}."
        platform = "feishu" if chat.startswith("oc_") else "dingtalk"
        status, message_id = await self.client.send(platform, conversation=chat, text=text)
        while status != 200:
            self.refusals += 1
            await asyncio.sleep(REDELIVER_AFTER_S)
            status = await self.client.redeliver(message_id)
        self.accepted[chat].append(message_id)


def kept_loaded(
    stack: Stack, crowd: Crowd, events: int
) -> Callable[[], Awaitable[tuple[int, int]]]:
    """For `Killer`: people write until at least `events` are in flight. Returns `Stack.load`."""

    async def prepare() -> tuple[int, int]:
        while (load := stack.load()) < (events, 0):
            await crowd.write(1)
        return load

    return prepare


def cut_short(
    kills: list[Kill],
    calls: list[dict[str, Any]],
    *,
    slots: int,
    lasting_s: float = 0,
    slack_s: float = SLACK_S,
) -> int:
    """How many of `calls` the kills may have cut short.

    slots: how many can run at once, so how many one kill can cut at most.
    lasting_s: how long a call lasts that has no end of its own in the ledger.
    """
    spans = [span_of(call, lasting_s) for call in calls]
    return sum(min(slots, sum(kill.hits(*span, slack_s) for span in spans)) for kill in kills)


def span_of(call: dict[str, Any], lasting_s: float = 0) -> tuple[float, float]:
    """When it ran, in Unix seconds. lasting_s: as for `cut_short`."""
    return call["at"], call.get("ended_at") or call["at"] + lasting_s
