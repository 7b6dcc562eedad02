"""DingTalk as the gateway sees it: access tokens, session webhooks, the robot API."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Any

from aiohttp import web

from tests.simulator import credentials as names
from tests.simulator import wire
from tests.simulator.faults import Fault
from tests.simulator.ledger import FAULT, REFUSED, Send
from tests.simulator.signing import unseal
from tests.simulator.wire import Answer
from tests.simulator.world import World

_MAX_TEXT_BYTES = 20_000  #: of a session webhook
_MAX_PARAM_BYTES = 15_000  #: of `msgParam`
_MAX_USERS = 20
#: Where the words of a message are, by `msgtype` and by `msgKey`.
_WEBHOOK_TEXT = {"text": "content", "markdown": "text"}
_ROBOT_TEXT = {"sampleText": "content", "sampleMarkdown": "text"}


class DingTalk:
    def __init__(self, world: World) -> None:
        self._world = world
        self._secret = world.credentials[names.DINGTALK_APP_SECRET]

    def routes(self) -> list[web.RouteDef]:
        api, oapi = "/dingtalk/api/v1.0", "/dingtalk/oapi"
        return [
            web.post(f"{api}/oauth2/accessToken", self.access_token),
            web.post(f"{api}/robot/oToMessages/batchSend", self.send_to_people),
            web.post(f"{api}/robot/groupMessages/send", self.send_to_group),
            web.post(f"{oapi}/robot/sendBySession", self.send_by_session),
        ]

    async def access_token(self, request: web.Request) -> web.StreamResponse:
        body = await wire.read_object(request)
        fault = self._take("dingtalk.token")
        if fault and fault.stops_work:
            return await wire.refuse(request, fault, _api_fault)
        known = self._world.credentials
        if (body.get("appKey"), body.get("appSecret")) != (
            known[names.DINGTALK_APP_KEY],
            self._secret,
        ):
            return wire.send(
                _api_error(400, "invalidClientIdOrSecret", "无效的clientId或者clientSecret")
            )
        token, expires_in_s = self._world.dingtalk_tokens.issue()
        answer = Answer(200, {"accessToken": token, "expireIn": expires_in_s})
        return await wire.spoil(request, fault, answer)

    async def send_by_session(self, request: web.Request) -> web.StreamResponse:
        """`?session=` names conversation and question; it needs no token."""
        body = await wire.read_object(request)
        msgtype = body.get("msgtype")
        content = body.get(msgtype) if msgtype in _WEBHOOK_TEXT else None
        text = content.get(_WEBHOOK_TEXT[str(msgtype)]) if isinstance(content, dict) else None
        session = unseal(self._secret, request.query.get("session", "")) or []
        send = Send("dingtalk", "session", "", text if isinstance(text, str) else "")
        if session[:1] == ["session"]:
            send.conversation, send.message_id = str(session[1]), str(session[2])

        def work() -> Answer:
            return self._webhook_problem(request, session, send.text) or _webhook_answer(0, "ok")

        return await self._do(request, "dingtalk.session", send, work, _webhook_fault)

    async def send_to_people(self, request: web.Request) -> web.StreamResponse:
        body = await wire.read_object(request)
        users = body.get("userIds")
        users = users if isinstance(users, list) else []
        chats = {user: self._chat_of(user) for user in map(str, users)}
        known = [chat for chat in chats.values() if chat]
        send = Send("dingtalk", "robot", known[0] if known else "", _robot_text(body))

        def work() -> Answer:
            if not 1 <= len(users) <= _MAX_USERS:
                return _api_error(400, "invalidParameter.userIds", "userIds: 1 to 20 staff ids")
            problem = self._robot_problem(request, body, send.text)
            if problem is None and not known:
                send.outcome = REFUSED
            return problem or Answer(
                200,
                {
                    "processQueryKey": secrets.token_urlsafe(16),
                    "invalidStaffIdList": [user for user, chat in chats.items() if not chat],
                    "flowControlledStaffIdList": [],
                },
            )

        return await self._do(request, "dingtalk.robot", send, work, _api_fault)

    async def send_to_group(self, request: web.Request) -> web.StreamResponse:
        body = await wire.read_object(request)
        group = body.get("openConversationId")
        send = Send("dingtalk", "robot", str(group or ""), _robot_text(body))

        def work() -> Answer:
            if not group:
                return _api_error(400, "invalidParameter.openConversationId", "no such group")
            problem = self._robot_problem(request, body, send.text)
            return problem or Answer(200, {"processQueryKey": secrets.token_urlsafe(16)})

        return await self._do(request, "dingtalk.robot", send, work, _api_fault)

    async def _do(
        self,
        request: web.Request,
        target: str,
        send: Send,
        work: Callable[[], Answer],
        error: Callable[[Fault], Answer],
    ) -> web.StreamResponse:
        """Run one send under the faults that are ordered, and enter it into the ledger."""
        ledger = self._world.ledger
        fault = self._take(target, send.text, ledger.question_text(send.message_id))
        if fault and fault.stops_work:
            send.outcome, send.code = FAULT, fault.kind
            ledger.add_send(send)
            return await wire.refuse(request, fault, error)
        answer = work()
        send.code = str(answer.body.get("code") or answer.body.get("errcode") or "")
        if send.code:
            send.outcome = REFUSED
        ledger.add_send(send)
        return await wire.spoil(request, fault, answer)

    def _take(self, target: str, *texts: str) -> Fault | None:
        fault = self._world.faults.take(target, *texts)
        if fault and fault.kind == "expire_tokens":
            self._world.dingtalk_tokens.expire()
        return fault

    def _webhook_problem(
        self, request: web.Request, session: list[str | int], text: str
    ) -> Answer | None:
        if "json" not in request.content_type:
            return _webhook_answer(43004, "无效的HTTP HEADER Content-Type")
        if session[:1] != ["session"]:
            return _webhook_answer(300005, "token is not exist")
        created_ms, expires_ms = int(session[3]), int(session[4])
        now_ms = self._world.clock() * 1000
        if now_ms >= expires_ms or created_ms <= self._world.sessions_void_until_ms:
            # `session.expired` stands in the code table; how a live webhook says it does not.
            text = "session.expired: the sessionWebhook has expired"
            return Answer(200, {"errcode": 88, "code": "session.expired", "errmsg": text})
        if not text.strip():
            return _webhook_answer(40035, "缺少参数 text.content")
        if len(text.encode()) > _MAX_TEXT_BYTES:
            return _webhook_answer(40035, "text is longer than 20000 bytes")
        return None

    def _robot_problem(
        self, request: web.Request, body: dict[str, Any], text: str
    ) -> Answer | None:
        token = request.headers.get("x-acs-dingtalk-access-token", "")
        if not self._world.dingtalk_tokens.is_valid(token):
            return _api_error(400, "InvalidAuthentication", "不合法的access_token")
        if body.get("robotCode") != self._world.credentials[names.DINGTALK_ROBOT_CODE]:
            return _api_error(400, "invalidParameter.robotCode", "robotCode 无效")
        if body.get("msgKey") not in _ROBOT_TEXT:
            return _api_error(400, "invalidParameter.msgKey", "sampleText or sampleMarkdown")
        if len(str(body.get("msgParam", "")).encode()) > _MAX_PARAM_BYTES:
            return _api_error(400, "invalidParameter.msgParam.tooLong", "消息内容太长")
        if not text.strip():
            return _api_error(400, "invalidParameter.msgParam.invalid", "msgParam: JSON with text")
        return None

    def _chat_of(self, staff_id: str) -> str:
        """The one-to-one chat of a staff id we made; empty for any other id."""
        fields = unseal(self._secret, staff_id) or []
        if fields[:1] != ["staff"]:
            return ""
        return str(fields[1]) or f"one-to-one with {fields[2]}"


def _robot_text(body: dict[str, Any]) -> str:
    member = _ROBOT_TEXT.get(str(body.get("msgKey")), "")
    try:
        content = json.loads(body.get("msgParam") or "").get(member)
    except (ValueError, TypeError, AttributeError):
        return ""
    return content if isinstance(content, str) else ""


def _webhook_answer(code: int, text: str) -> Answer:
    return Answer(200, {"errcode": code, "errmsg": text})


def _webhook_fault(fault: Fault) -> Answer:
    return Answer(fault.status or 200, {"errcode": fault.code, "errmsg": fault.message})


def _api_error(status: int, code: str, message: str) -> Answer:
    body = {"code": code, "message": message, "requestid": secrets.token_hex(8).upper()}
    return Answer(status, body)


def _api_fault(fault: Fault) -> Answer:
    return _api_error(fault.status or 400, str(fault.code), fault.message)
