"""The web page's side: write as a person, watch what comes back."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from tests.simulator import wire
from tests.simulator.client import TIMED_OUT, Ack, post, posted_from
from tests.simulator.control import bad_request
from tests.simulator.events import Message, build_request, new_message_id
from tests.simulator.ledger import ModelCall, Record, Send, as_json
from tests.simulator.world import World

_HERE = Path(__file__).parent
_FILES = {"/": "page.html", "/page.css": "page.css", "/page.js": "page.js"}
_CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_CHAT_PLATFORMS = ("dingtalk", "feishu")
_ID_PREFIX = {"dingtalk": "cid-demo", "feishu": "oc_demo"}
_HISTORY = 500  #: records a page that is opened later still sees
_INGRESS_TIMEOUT_S = 10.0
_READY_TIMEOUT_S = 3.0

_REASONS = {
    0: "the gateway can't be reached: is it running?",
    401: "the gateway refused the signature: it must run with this simulator's credentials",
    404: "the gateway has no such address: is this platform configured?",
    413: "the message is too large for the gateway",
    429: "too many messages per second: wait a moment and send again",
    503: "the gateway can't record the message now: Redis is away, or its queue is full",
}


class Chat:
    def __init__(self, world: World) -> None:
        self._world = world
        self._platforms = [p for p in _CHAT_PLATFORMS if p in world.parts]
        self._conversations: dict[str, dict[str, Any]] = {}
        self._readers: set[asyncio.Queue[str | None]] = set()
        self._session: aiohttp.ClientSession | None = None
        world.ledger.on_change = self._publish
        for platform in self._platforms:
            self._add_conversation(platform, group=False)
            self._add_conversation(platform, group=True)

    def routes(self) -> list[web.RouteDef]:
        return [
            *(web.get(path, self.page_file) for path in _FILES),
            web.get("/chat/stream", self.stream, allow_head=False),
            web.get("/chat/gateway", self.gateway),
            web.post("/chat/send", self.send),
            web.post("/chat/conversations", self.new_conversation),
        ]

    async def keep_session(self, _: web.Application) -> AsyncIterator[None]:
        """A cleanup context of the application."""
        timeout = aiohttp.ClientTimeout(total=_INGRESS_TIMEOUT_S)
        self._session = aiohttp.ClientSession(timeout=timeout)
        yield
        await self._session.close()

    async def end_streams(self, _: web.Application) -> None:
        """Open pages must not hold up a shutdown."""
        for reader in self._readers:
            reader.put_nowait(None)

    async def page_file(self, request: web.Request) -> web.StreamResponse:
        headers = {
            "Content-Security-Policy": _CONTENT_POLICY,
            "Cache-Control": "no-cache",
            "X-Content-Type-Options": "nosniff",
        }
        return web.FileResponse(_HERE / _FILES[request.path], headers=headers)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events: first what there is, then every change."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        reader: asyncio.Queue[str | None] = asyncio.Queue()
        self._readers.add(reader)
        try:
            await response.write(_event("hello", self._hello()).encode())
            while (text := await reader.get()) is not None:
                await response.write(text.encode())
        except ConnectionError:
            pass
        finally:
            self._readers.discard(reader)
        return response

    async def gateway(self, _: web.Request) -> web.Response:
        """What the gateway says of itself, for the light in the corner of the page."""
        url = self._world.ingress_url
        timeout = aiohttp.ClientTimeout(total=_READY_TIMEOUT_S)
        status, detail = 0, _REASONS[0]
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with self._http().get(f"{url}/ready", timeout=timeout) as response:
                status, detail = response.status, (await response.text())[:500]
        return web.json_response({"url": url, "status": status, "detail": detail})

    async def new_conversation(self, request: web.Request) -> web.Response:
        body = await wire.read_object(request)
        platform = body.get("platform")
        if platform not in self._platforms:
            return bad_request(f"platform: one of {', '.join(self._platforms)}")
        added = self._add_conversation(platform, group=bool(body.get("group")))
        self._broadcast(_event("conversation", added))
        return web.json_response(added)

    async def send(self, request: web.Request) -> web.Response:
        """Write {"text"} in {"conversation"}: signed, posted, and told what the gateway said."""
        body = await wire.read_object(request)
        chat = self._conversations.get(str(body.get("conversation")))
        text = body.get("text")
        if chat is None or body.get("platform") not in (None, chat["platform"]):
            return bad_request("conversation: not one of this page")
        if not isinstance(text, str) or not text.strip():
            return bad_request("text: there is nothing to send")
        ack = await self._post(self._compose(chat, text))
        reason = explain(ack)
        return web.json_response(
            {"status": ack.status, "ack_ms": round(ack.took_ms, 1), "reason": reason}
        )

    def _compose(self, chat: dict[str, Any], text: str) -> Message:
        return Message(
            platform=chat["platform"],
            conversation=chat["id"],
            text=text,
            created_ms=int(self._world.clock() * 1000),
            sender=f"demo-{chat['number']}",
            group=chat["group"],
            message_id=new_message_id(chat["platform"]),
        )

    async def _post(self, message: Message) -> Ack:
        world = self._world
        posted = posted_from(message, None, world.clock())
        world.ledger.add_event(posted)  # before posting: the answer may be quicker than the ack
        request = build_request(world.credentials, message, world.base_url, now=world.clock())
        ack = await post(self._http(), world.ingress_url, request)
        world.ledger.acknowledge(
            posted, status=ack.status, ack_ms=round(ack.took_ms, 1), reason=explain(ack)
        )
        said = _said_at_once(ack) if message.platform == "dingtalk" else ""
        if said:
            world.ledger.add_send(
                Send("dingtalk", "ack", message.conversation, said, message.message_id)
            )
        return ack

    def _add_conversation(self, platform: str, *, group: bool) -> dict[str, Any]:
        like = [c for c in self._conversations.values() if c["platform"] == platform]
        number = 1 + sum(1 for c in like if c["group"] == group)
        name = f"{_ID_PREFIX[platform]}-{'group' if group else 'private'}-{number}"
        added = {"id": name, "platform": platform, "group": group, "number": number}
        self._conversations[name] = added
        return added

    def _hello(self) -> dict[str, Any]:
        """Model calls belong to no chat; other clients' chats are not the page's."""
        records = [
            as_json(record) for record in self._world.ledger.since(0) if self._is_shown(record)
        ]
        return {
            "platforms": self._platforms,
            "conversations": list(self._conversations.values()),
            "records": records[-_HISTORY:],
        }

    def _is_shown(self, record: Record) -> bool:
        return not isinstance(record, ModelCall) and record.conversation in self._conversations

    def _publish(self, record: Record) -> None:
        if self._readers and self._is_shown(record):
            self._broadcast(_event("record", as_json(record)))

    def _broadcast(self, text: str) -> None:
        for reader in self._readers:
            reader.put_nowait(text)

    def _http(self) -> aiohttp.ClientSession:
        assert self._session is not None, "the application has not started"
        return self._session


def explain(ack: Ack) -> str:
    """Why a message was not accepted, in a sentence; empty when it was."""
    if ack.status == 200:
        return ""
    if ack.status == 0 and ack.body == TIMED_OUT:
        return f"the gateway did not answer within {_INGRESS_TIMEOUT_S:.0f} s"
    reason = _REASONS.get(ack.status, "the gateway did not accept the message")
    if ack.status == 0:
        return reason
    detail = ack.body.decode("utf-8", "replace").strip()[:200]
    return f"{reason} ({detail})" if detail else reason


def _said_at_once(ack: Ack) -> str:
    """DingTalk shows a message that stands in the HTTP answer itself."""
    try:
        answer = json.loads(ack.body)
        kind = answer["msgtype"]
        text = answer[kind]["text" if kind == "markdown" else "content"]
    except (ValueError, KeyError, TypeError):
        return ""
    return text if ack.status == 200 and isinstance(text, str) else ""


def _event(name: str, value: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(value, ensure_ascii=False)}\n\n"
