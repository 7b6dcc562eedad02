"""Feishu as the gateway sees it: tenant tokens, replies with idempotency, sends."""

from __future__ import annotations

import json
import secrets
from typing import Any

from aiohttp import web

from tests.simulator import credentials as names
from tests.simulator import wire
from tests.simulator.events import bot_open_id
from tests.simulator.faults import Fault
from tests.simulator.ledger import FAULT, REFUSED, REPEAT, Send
from tests.simulator.wire import Answer
from tests.simulator.world import World

_UUID_LIFETIME_S = 3600.0
_MAX_UUID_CHARS = 50
_MAX_TEXT_BYTES = 150 * 1024
_PAGE_SIZES = range(10, 51)
_RECEIVER_KINDS = ("open_id", "union_id", "user_id", "email", "chat_id")


class Feishu:
    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[web.RouteDef]:
        base = "/feishu/open-apis"
        return [
            web.post(f"{base}/auth/v3/tenant_access_token/internal", self.tenant_token),
            web.get(f"{base}/bot/v3/info", self.bot_info, allow_head=False),
            web.get(f"{base}/event/v1/outbound_ip", self.outbound_addresses, allow_head=False),
            web.post(f"{base}/im/v1/messages", self.send),
            web.post(f"{base}/im/v1/messages/{{message_id}}/reply", self.reply),
        ]

    async def tenant_token(self, request: web.Request) -> web.StreamResponse:
        body = await wire.read_object(request)
        fault = self._take("feishu.token")
        if fault and fault.stops_work:
            return await wire.refuse(request, fault, _fault_answer)
        known = self._world.credentials
        given = (body.get("app_id"), body.get("app_secret"))
        if given != (known[names.FEISHU_APP_ID], known[names.FEISHU_APP_SECRET]):
            return wire.send(_error(10014, "app secret invalid"))
        token, expires_in_s = self._world.feishu_tokens.issue()
        value = {"code": 0, "msg": "ok", "tenant_access_token": token, "expire": expires_in_s}
        return await wire.spoil(request, fault, Answer(200, value))

    async def bot_info(self, request: web.Request) -> web.StreamResponse:
        bot = {"open_id": bot_open_id(self._world.credentials), "app_name": "ClawdBot"}
        value = {"code": 0, "msg": "ok", "bot": {**bot, "activate_status": 2}}
        return wire.send(self._token_problem(request) or Answer(200, value))

    async def outbound_addresses(self, request: web.Request) -> web.StreamResponse:
        """A page of the addresses that events come from; the token of a page is its first place."""
        fault = self._take("feishu.addresses")
        if fault and fault.stops_work:
            return await wire.refuse(request, fault, _fault_answer)
        size, first = request.query.get("page_size", "10"), request.query.get("page_token", "0")
        if not first.isdecimal() or not size.isdecimal() or int(size) not in _PAGE_SIZES:
            return wire.send(_error(1810001, "param is invalid"))
        end = int(first) + int(size)
        known = self._world.outbound_addresses
        data: dict[str, Any] = {"ip_list": known[int(first) : end], "has_more": end < len(known)}
        if data["has_more"]:
            data["page_token"] = str(end)
        answer = Answer(200, {"code": 0, "msg": "success", "data": data})
        return await wire.spoil(request, fault, self._token_problem(request) or answer)

    async def reply(self, request: web.Request) -> web.StreamResponse:
        body = await wire.read_object(request)
        message_id = request.match_info["message_id"]
        send = Send("feishu", "reply", "", _text_of(body), message_id=message_id)
        problem = None
        if not message_id.startswith("om_"):
            problem = _error(230001, "invalid request: message_id")
        return await self._do(request, body, send, problem)

    async def send(self, request: web.Request) -> web.StreamResponse:
        body = await wire.read_object(request)
        receiver = body.get("receive_id")
        send = Send("feishu", "send", str(receiver or ""), _text_of(body))
        problem = None
        if not receiver or request.query.get("receive_id_type") not in _RECEIVER_KINDS:
            problem = _error(230034, "invalid receive_id")
        return await self._do(request, body, send, problem)

    async def _do(
        self, request: web.Request, body: dict[str, Any], send: Send, problem: Answer | None
    ) -> web.StreamResponse:
        """Run one send under the faults that are ordered, and enter it into the ledger."""
        ledger = self._world.ledger
        send.uuid = str(body.get("uuid") or "")
        fault = self._take("feishu.reply", send.text, ledger.question_text(send.message_id))
        if fault and fault.stops_work:
            send.outcome, send.code = FAULT, fault.kind
            ledger.add_send(send)
            return await wire.refuse(request, fault, _fault_answer)
        problem = self._token_problem(request) or problem or _content_problem(body, send)
        if problem:
            send.outcome, send.code = REFUSED, str(problem.body["code"])
        else:
            self._deliver(send)
        ledger.add_send(send)
        return await wire.spoil(request, fault, problem or _sent(send))

    def _deliver(self, send: Send) -> None:
        """The same uuid within an hour names the first message again, and shows nothing new."""
        sent, now = self._world.feishu_uuids, self._world.clock()
        while sent and next(iter(sent.values()))[1] <= now:
            del sent[next(iter(sent))]
        known = sent.get(send.uuid)
        if known:
            send.receipt, send.outcome = known[0], REPEAT
            return
        send.receipt = "om_" + secrets.token_hex(16)
        if send.uuid:
            sent[send.uuid] = (send.receipt, now + _UUID_LIFETIME_S)

    def _take(self, target: str, *texts: str) -> Fault | None:
        fault = self._world.faults.take(target, *texts)
        if fault and fault.kind == "expire_tokens":
            self._world.feishu_tokens.expire()
        return fault

    def _token_problem(self, request: web.Request) -> Answer | None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not token:
            return _error(99991661, "Missing access token for authorization.")
        if not self._world.feishu_tokens.is_valid(token):
            return _error(99991663, "Invalid access token for authorization.")
        return None


def _content_problem(body: dict[str, Any], send: Send) -> Answer | None:
    if len(send.uuid) > _MAX_UUID_CHARS:
        return _error(230001, "invalid request: uuid is longer than 50 characters")
    if body.get("msg_type") != "text":
        return _error(230001, "the simulator shows msg_type text only")
    if not send.text.strip():
        return _error(230001, 'invalid request: content must be a JSON string {"text": …}')
    if len(send.text.encode()) > _MAX_TEXT_BYTES:
        return _error(230025, "The length of the message content reaches its limit.")
    return None


def _text_of(body: dict[str, Any]) -> str:
    try:
        text = json.loads(body.get("content") or "").get("text")
    except (ValueError, TypeError, AttributeError):
        return ""
    return text if isinstance(text, str) else ""


def _sent(send: Send) -> Answer:
    data = {"message_id": send.receipt, "chat_id": send.conversation, "msg_type": "text"}
    return Answer(200, {"code": 0, "msg": "success", "data": data})


def _error(code: int, text: str, status: int = 400) -> Answer:
    return Answer(status, {"code": code, "msg": text, "error": {"log_id": secrets.token_hex(8)}})


def _fault_answer(fault: Fault) -> Answer:
    body = {"code": fault.code, "msg": fault.message}
    return Answer(fault.status or 400, body, fault.headers)
