"""What people say and see: the tests' words for the signed client and the simulator's ledger."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import aiohttp

from tests.e2e.stack import Stack
from tests.simulator.client import Ack, SignedClient, post
from tests.simulator.events import Request

REST_TIMEOUT_S = 40

T = TypeVar("T")
_numbers = itertools.count(1)


async def eventually(condition: Callable[[], Awaitable[T]], timeout_s: float, what: str) -> T:
    """As `wait_until`, for conditions that are awaited."""
    deadline = time.monotonic() + timeout_s
    while not (value := await condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        await asyncio.sleep(0.05)
    return value


def new_chat(platform: str) -> str:
    """A conversation that nobody has used."""
    return f"{'oc_' if platform == 'feishu' else 'cid'}e2e{next(_numbers):05d}"


async def deliver(stack: Stack, request: Request, *, bot: str = "") -> Ack:
    """Post a request that a test built itself, to a named bot's address if one is given."""
    path, headers, body = request
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        return await post(session, stack.ingress_url, (f"{path}/{bot}".rstrip("/"), headers, body))


class Talk:
    """People and the gateway between them and the simulated platforms."""

    def __init__(self, stack: Stack, client: SignedClient) -> None:
        self.stack = stack
        self.client = client

    async def say(self, platform: str, text: str, *, chat: str = "", **more: Any) -> str:
        """Write `text`; the gateway must acknowledge it. Returns the message's id."""
        chat = chat or new_chat(platform)
        status, message_id = await self.client.send(platform, conversation=chat, text=text, **more)
        assert status == 200, f"{platform}: HTTP {status}"
        return message_id

    async def ask(self, platform: str, text: str, **more: Any) -> list[str]:
        """Say it in a new chat and wait; the texts that stand there in the end."""
        chat = new_chat(platform)
        await self.say(platform, text, chat=chat, **more)
        await self.at_rest()
        return await self.texts(chat)

    async def at_rest(self, timeout_s: float = REST_TIMEOUT_S) -> None:
        """Wait until nothing is in flight: then no further answer can come."""

        async def is_at_rest() -> bool:
            return not self.stack.unfinished_lanes()

        await eventually(is_at_rest, timeout_s, "every lane is empty")

    async def sends(self, chat: str) -> list[dict[str, Any]]:
        """Every call of a send API for `chat`, in order."""
        records = await self.client.ledger(conversation=chat)
        return [record for record in records if record["kind"] == "send"]

    async def shown(self, chat: str) -> list[dict[str, Any]]:
        """What the people in `chat` see, in order."""
        return [send for send in await self.sends(chat) if send["outcome"] == "visible"]

    async def texts(self, chat: str) -> list[str]:
        return [send["text"] for send in await self.shown(chat)]

    async def model_calls(self, text: str) -> list[dict[str, Any]]:
        """The calls of the model for the question `text`, in order."""
        records = await self.client.ledger()
        return [r for r in records if r["kind"] == "model" and r["text"] == text]

    async def fault(self, target: str, kind: str, **more: Any) -> None:
        await self.client.control("faults", {"target": target, "kind": kind, **more})

    async def pace(self, **changes: float) -> None:
        """How the model speaks."""
        await self.client.control("model", changes)

    async def no_faults(self) -> None:
        """Take back what `fault` ordered."""
        await self.client.control("faults", method="DELETE")
