"""Posts signed messages to the gateway as DingTalk and Feishu do; for tests and load."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from types import TracebackType
from typing import Any

import aiohttp

from tests.simulator.events import Message, Request, build_request, new_message_id
from tests.simulator.ledger import Posted

_REPORT_EVERY = 200  #: events told to the simulator in one call
_REPORT_CHARACTERS = 100_000  #: of their texts; a body over 1 MiB is nothing that aiohttp likes
_REPORT_AFTER_S = 0.5
_REMEMBERED = 20_000  #: messages `redeliver` knows
_ANSWER_TIMEOUT_S = 10.0

TIMED_OUT = b"timed out"  #: the body of an `Ack` when the gateway kept silent


@dataclass(frozen=True, slots=True)
class Ack:
    """What the gateway answered. status 0: no HTTP answer came; `body` then says why."""

    status: int
    took_ms: float
    body: bytes


async def post(session: aiohttp.ClientSession, ingress_url: str, request: Request) -> Ack:
    """Post one request to the gateway. Never raises for what the network does."""
    path, headers, body = request
    started = time.perf_counter()
    try:
        async with session.post(ingress_url + path, data=body, headers=headers) as response:
            status, answer = response.status, await response.read()
    except TimeoutError:
        status, answer = 0, TIMED_OUT
    except aiohttp.ClientError as error:
        status, answer = 0, (str(error) or type(error).__name__).encode()
    return Ack(status, (time.perf_counter() - started) * 1000, answer)


class SignedClient:
    """Use as `async with SignedClient(credentials, ingress_url, simulator_url) as client`.

    credentials: what `read_env` gives for the file the simulator wrote.
    What is sent is told to the simulator in batches, so that its statistics know the questions;
    `stats` and `ledger` tell the rest first. With simulator_url "" nothing is told.
    """

    def __init__(
        self,
        credentials: Mapping[str, str],
        ingress_url: str,
        simulator_url: str,
        *,
        connections: int = 100,
    ) -> None:
        self._credentials = credentials
        self._ingress_url = ingress_url.rstrip("/")
        self._simulator_url = simulator_url.rstrip("/")
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None
        self._messages: OrderedDict[str, Message] = OrderedDict()
        self._untold: list[Posted] = []
        self._told_at = time.monotonic()
        self._telling = asyncio.Lock()

    async def __aenter__(self) -> SignedClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            await self.tell()
        if self._session:
            await self._session.close()

    async def send(
        self,
        platform: str,
        *,
        conversation: str,
        text: str,
        sender: str = "u1",
        message_id: str | None = None,
        event_id: str | None = None,
        webhook_expires_in_s: float = 5400,
        group: bool = False,
    ) -> tuple[int, str]:
        """Write `text` in a chat. Returns the gateway's HTTP status (0: no answer) and the id."""
        message = self._compose(
            platform,
            conversation=conversation,
            text=text,
            sender=sender,
            message_id=message_id,
            event_id=event_id,
            webhook_expires_in_s=webhook_expires_in_s,
            group=group,
        )
        return await self._deliver(message), message.message_id

    async def redeliver(self, message_id: str, *, event_id: str | None = None) -> int:
        """Post an earlier message again, signed anew: the same event, or one with a new id.

        Raises:
            KeyError: this client did not send it, or did so long ago.
        """
        message = self._messages[message_id]
        return await self._deliver(replace(message, event_id=event_id) if event_id else message)

    def build(
        self, platform: str, *, conversation: str, text: str, now: float | None = None, **more: Any
    ) -> Request:
        """(path, headers, body) for a test that posts the bytes itself.

        now: the Unix time of the signature, for stale ones. `more`: as in `send`.
        """
        message = self._compose(platform, conversation=conversation, text=text, **more)
        now = time.time() if now is None else now
        return build_request(self._credentials, message, self._simulator_url, now=now)

    async def stats(self) -> dict[str, Any]:
        """GET /control/stats."""
        stats: dict[str, Any] = await self._read("/control/stats", {})
        return stats

    async def ledger(self, *, conversation: str = "", since: int = 0) -> list[dict[str, Any]]:
        """GET /control/ledger."""
        query = {"conversation": conversation, "since": str(since)}
        records: list[dict[str, Any]] = await self._read("/control/ledger", query)
        return records

    async def control(self, path: str, value: Any = None, *, method: str = "POST") -> Any:
        """Call the control API, such as `control("faults", {"target": …, "kind": …})`.

        Raises:
            ValueError: the simulator refused; the text says why.
        """
        url = f"{self._simulator_url}/control/{path}"
        async with self._http().request(method, url, json=value or {}) as response:
            answer = await response.json()
        if response.status != 200:
            raise ValueError(f"{method} {url}: {answer.get('error', response.status)}")
        return answer

    async def tell(self) -> None:
        """Tell the simulator what was sent since the last time."""
        async with self._telling:
            while self._untold and self._simulator_url:
                batch = _first_of(self._untold)
                await self.control("events", {"events": [_fields(posted) for posted in batch]})
                del self._untold[: len(batch)]
        self._told_at = time.monotonic()

    def _compose(
        self,
        platform: str,
        *,
        message_id: str | None = None,
        event_id: str | None = None,
        **more: Any,
    ) -> Message:
        if event_id:
            more["event_id"] = event_id
        message = Message(
            platform=platform,
            message_id=message_id or new_message_id(platform),
            created_ms=int(time.time() * 1000),
            **more,
        )
        self._messages[message.message_id] = message
        if len(self._messages) > _REMEMBERED:
            self._messages.popitem(last=False)
        return message

    async def _deliver(self, message: Message) -> int:
        request = build_request(self._credentials, message, self._simulator_url, now=time.time())
        at = time.time()
        ack = await post(self._http(), self._ingress_url, request)
        self._untold.append(posted_from(message, ack, at))
        if self._tells_now():
            # The events stay untold and are told later; a test of the gateway must not fail here.
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                await self.tell()
        return ack.status

    def _tells_now(self) -> bool:
        if self._telling.locked():
            return False
        is_late = time.monotonic() - self._told_at > _REPORT_AFTER_S
        return is_late or len(self._untold) >= _REPORT_EVERY

    async def _read(self, path: str, query: dict[str, str]) -> Any:
        await self.tell()
        async with self._http().get(self._simulator_url + path, params=query) as response:
            response.raise_for_status()
            return await response.json()

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections),
                timeout=aiohttp.ClientTimeout(total=_ANSWER_TIMEOUT_S),
            )
        return self._session


def posted_from(message: Message, ack: Ack | None, at: float) -> Posted:
    """The ledger's record of `message`; without `ack`: on its way."""
    return Posted(
        platform=message.platform,
        conversation=message.conversation,
        message_id=message.message_id,
        text=message.text,
        sender=message.sender,
        event_id=message.event_id,
        group=message.group,
        status=ack.status if ack else 0,
        ack_ms=ack.took_ms if ack else 0.0,
        at=at,
    )


def _first_of(untold: list[Posted]) -> list[Posted]:
    """What one call tells: at least one event."""
    characters = accumulate(len(posted.text) for posted in untold[:_REPORT_EVERY])
    fitting = sum(count <= _REPORT_CHARACTERS for count in characters)
    return untold[: max(1, fitting)]


def _fields(posted: Posted) -> dict[str, Any]:
    fields = asdict(posted)
    del fields["seq"], fields["kind"]
    return fields
