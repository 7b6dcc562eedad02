"""A bot, its message and its signature, written down without our own code's help."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

from shared.http_values import RawRequest
from shared.platforms.dingtalk.inbound import DingTalkInbound
from shared.platforms.dingtalk.settings import DingTalkSettings

NOW = 1763791200.123
SECRET = "test-app-secret-1"
WEBHOOK = "https://oapi.dingtalk.com/robot/sendBySession?session=abc"
OPTIONS = {"app_key": "dingtest1", "app_secret": SECRET}


def digest(timestamp: str, secret: str) -> bytes:
    return hmac.new(secret.encode(), f"{timestamp}\n{secret}".encode(), hashlib.sha256).digest()


def signed(body: bytes, secret: str = SECRET, timestamp: str = "1763791199923") -> RawRequest:
    sign = base64.b64encode(digest(timestamp, secret)).decode()
    return RawRequest({"timestamp": timestamp, "sign": sign}, body)


def message(words: Any = " 你好 ", **changes: Any) -> dict[str, Any]:
    """The body of a text in a one-to-one chat; `changes` replace its members."""
    return {
        "msgId": "msg1==",
        "msgtype": "text",
        "text": {"content": words},
        "conversationType": "1",
        "conversationId": "cid1==",
        "senderId": "$:LWCP_v1:$x",
        "senderStaffId": "manager1",
        "senderNick": "小钉",
        "senderCorpId": "dingcorp2",
        "chatbotCorpId": "dingcorp1",
        "robotCode": "dingtest1",
        "sessionWebhook": WEBHOOK,
        "sessionWebhookExpiredTime": 1763796600123,
        "createAt": 1763791199823,
        **changes,
    }


def inbound(**changes: Any) -> DingTalkInbound:
    return DingTalkInbound(DingTalkSettings.model_validate({**OPTIONS, **changes}))


def received(body: dict[str, Any], **changes: Any) -> Any:
    return inbound(**changes).receive(signed(json.dumps(body).encode()), now=NOW)
