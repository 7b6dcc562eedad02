"""What a platform posts to the gateway when a person writes: a signed request, byte for byte."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.simulator import credentials as names
from tests.simulator.signing import dingtalk_sign, feishu_encrypt, feishu_signature, seal

Request = tuple[str, dict[str, str], bytes]  #: path, headers, body

WEBHOOK_LIFETIME_S = 5400.0  #: a session webhook lives about an hour and a half


@dataclass(frozen=True, slots=True)
class Message:
    """One thing a person writes. Ids are made when none are given; `created_ms` is set by us."""

    platform: str
    conversation: str
    text: str
    created_ms: int
    sender: str = "u1"
    group: bool = False
    message_id: str = ""
    event_id: str = field(default_factory=lambda: secrets.token_hex(16))
    webhook_expires_in_s: float = WEBHOOK_LIFETIME_S


def new_message_id(platform: str) -> str:
    """A fresh id of the shape the platform uses."""
    if platform == "feishu":
        return "om_" + secrets.token_hex(16)
    return "msg" + base64.b64encode(secrets.token_bytes(16)).decode()


def build_request(
    credentials: Mapping[str, str], message: Message, simulator_url: str, *, now: float
) -> Request:
    """The request that tells the gateway of `message`, signed at `now` (Unix seconds)."""
    if message.platform == "dingtalk":
        return _dingtalk_request(credentials, message, simulator_url, now)
    return _feishu_request(credentials, message, now)


def staff_id(credentials: Mapping[str, str], message: Message) -> str:
    """A company user id from which the simulator can tell the one-to-one chat it stands for."""
    chat = "" if message.group else message.conversation
    return seal(credentials[names.DINGTALK_APP_SECRET], "staff", chat, message.sender)


def bot_open_id(credentials: Mapping[str, str]) -> str:
    return "ou_" + _digest("bot", credentials[names.FEISHU_APP_ID])


def _dingtalk_request(
    credentials: Mapping[str, str], message: Message, simulator_url: str, now: float
) -> Request:
    secret = credentials[names.DINGTALK_APP_SECRET]
    timestamp = str(int(now * 1000))
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "timestamp": timestamp,
        "sign": dingtalk_sign(timestamp, secret),
    }
    return "/dingtalk/webhook", headers, _json(_dingtalk_body(credentials, message, simulator_url))


def _dingtalk_body(
    credentials: Mapping[str, str], message: Message, simulator_url: str
) -> dict[str, Any]:
    app_key = credentials[names.DINGTALK_APP_KEY]
    expires_ms = message.created_ms + int(message.webhook_expires_in_s * 1000)
    session = seal(
        credentials[names.DINGTALK_APP_SECRET],
        "session",
        message.conversation,
        message.message_id,
        message.created_ms,
        expires_ms,
    )
    bot = "$:LWCP_v1:$" + _digest("bot", app_key)
    body = {
        "senderPlatform": "Mac",
        "conversationId": message.conversation,
        "chatbotCorpId": "ding" + _digest("corp", app_key),
        "chatbotUserId": bot,
        "msgId": message.message_id,
        "senderNick": message.sender,
        "isAdmin": False,
        "senderStaffId": staff_id(credentials, message),
        "senderCorpId": "ding" + _digest("corp", app_key),
        "senderId": "$:LWCP_v1:$" + _digest("sender", app_key, message.sender),
        "sessionWebhook": f"{simulator_url}/dingtalk/oapi/robot/sendBySession?session={session}",
        "sessionWebhookExpiredTime": expires_ms,
        "createAt": message.created_ms,
        "conversationType": "2" if message.group else "1",
        "robotCode": credentials[names.DINGTALK_ROBOT_CODE],
        "msgtype": "text",
        # In a group the platform removes the mention of the bot and leaves the space after it.
        "text": {"content": f" {message.text}" if message.group else message.text},
    }
    if message.group:
        body |= {
            "conversationTitle": f"Group {message.conversation}",
            "atUsers": [{"dingtalkId": bot}],
            "isInAtList": True,
        }
    return body


def _feishu_request(credentials: Mapping[str, str], message: Message, now: float) -> Request:
    key = credentials.get(names.FEISHU_ENCRYPT_KEY, "")
    body = _json(_feishu_envelope(credentials, message))
    headers = {"Content-Type": "application/json; charset=utf-8"}
    if key:
        body = _json({"encrypt": feishu_encrypt(key, body, secrets.token_bytes(16))})
        timestamp, nonce = str(int(now)), str(secrets.randbelow(10**10))
        headers |= {
            "X-Lark-Request-Timestamp": timestamp,
            "X-Lark-Request-Nonce": nonce,
            "X-Lark-Signature": feishu_signature(timestamp, nonce, key, body),
        }
    return "/feishu/webhook", headers, body


def _feishu_envelope(credentials: Mapping[str, str], message: Message) -> dict[str, Any]:
    app_id = credentials[names.FEISHU_APP_ID]
    tenant = _digest("tenant", app_id)[:16]
    return {
        "schema": "2.0",
        "header": {
            "event_id": message.event_id,
            "event_type": "im.message.receive_v1",
            "create_time": str(message.created_ms),
            "token": credentials[names.FEISHU_VERIFICATION_TOKEN],
            "app_id": app_id,
            "tenant_key": tenant,
        },
        "event": {
            "sender": {
                "sender_id": {
                    "union_id": "on_" + _digest("union", message.sender),
                    "user_id": None,
                    "open_id": "ou_" + _digest("open", app_id, message.sender),
                },
                "sender_type": "user",
                "tenant_key": tenant,
            },
            "message": _feishu_message(credentials, message, tenant),
        },
    }


def _feishu_message(
    credentials: Mapping[str, str], message: Message, tenant: str
) -> dict[str, Any]:
    text = f"@_user_1 {message.text}" if message.group else message.text
    body: dict[str, Any] = {
        "message_id": message.message_id,
        "create_time": str(message.created_ms),
        "update_time": str(message.created_ms),
        "chat_id": message.conversation,
        "chat_type": "group" if message.group else "p2p",
        "message_type": "text",
        "content": json.dumps({"text": text}, ensure_ascii=False),
    }
    if message.group:
        ids = {"union_id": "on_" + _digest("bot"), "user_id": None}
        body["mentions"] = [
            {
                "key": "@_user_1",
                "id": {**ids, "open_id": bot_open_id(credentials)},
                "mentioned_type": "bot",
                "name": "ClawdBot",
                "tenant_key": tenant,
            }
        ]
    return body


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
