"""DingTalk's webhook calls: verify, parse. Facts and sources: README.md beside this file.

The signature does not cover the body: the robot code, the company id and the message id are
checked as well, and nothing in the body decides where secrets are sent.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from shared.errors import AuthError, MalformedError
from shared.http_values import RawRequest
from shared.messages import Challenge, Event, Ignored
from shared.platforms.dingtalk.settings import DingTalkSettings
from shared.platforms.settings import reveal
from shared.platforms.signing import is_fresh, match_index, read_timestamp_ms
from shared.platforms.text import id_in, ms_in, name_in, object_in, read_object, string_in

#: https://open.dingtalk.com/document/orgapp/receive-message
WINDOW_S = 3600
QUOTA_NOTICE = "20001"
MAX_WEBHOOK_CHARS = 2048
BUSY = "消息太多，这一条没有收下，请稍后再发。 Too busy: this message was not taken; please resend."


def platform_signature(timestamp: str, app_secret: str) -> str:
    """What DingTalk puts into the header `sign`."""
    return base64.b64encode(_digest(timestamp, app_secret)).decode()


def guide_signature(timestamp: str, app_secret: str) -> str:
    """The deployment guide's form: the same digest in hex; the platform never sends it."""
    return _digest(timestamp, app_secret).hex()


def _digest(timestamp: str, app_secret: str) -> bytes:
    text = f"{timestamp}\n{app_secret}".encode("utf-8", "surrogatepass")
    return hmac.digest(app_secret.encode(), text, "sha256")


class DingTalkInbound:
    """The webhook half of one bot."""

    def __init__(self, settings: DingTalkSettings) -> None:
        self._app_key = settings.app_key
        self._secrets = reveal(settings.app_secret)
        self._robot_code = settings.robot_code
        self._corp_ids = frozenset(settings.corp_ids)
        is_guide = settings.signature_scheme == "guide"
        self._sign = guide_signature if is_guide else platform_signature

    def receive(self, request: RawRequest, *, now: float) -> Event | Challenge | Ignored:
        """See `shared.platforms.base.Inbound`. DingTalk never sends a Challenge."""
        by_old_secret = self._verify(request.headers, now)
        body = read_object(request.body)
        self._check_addressee(body)
        if string_in(body.get("errorCode")) == QUOTA_NOTICE or body.get("errorCode") == 20001:
            return Ignored("quota_notice")
        message_id = id_in(body.get("msgId"))
        if not message_id:
            raise MalformedError("json")  # without an id a repeat could not be told from a new one
        received = self._parse(body, message_id)
        if by_old_secret and isinstance(received, Event):
            return replace(received, by_old_secret=True)
        return received

    def busy_answer(self) -> Mapping[str, Any]:
        """DingTalk shows the answer to its call as a message.

        https://open.dingtalk.com/document/orgapp/receive-message
        """
        return {"msgtype": "text", "text": {"content": BUSY}}

    def _verify(self, headers: Mapping[str, str], now: float) -> bool:
        """Whether it was signed with a secret that is not the current one."""
        timestamp = headers.get("timestamp", "")
        sent_ms = read_timestamp_ms(timestamp, seconds=False)
        if not is_fresh(sent_ms, now=now, window_s=WINDOW_S):
            raise AuthError("timestamp")
        accepted = (self._sign(timestamp, secret) for secret in self._secrets)
        index = match_index(headers.get("sign", ""), accepted)
        if index < 0:
            raise AuthError("signature")
        return index > 0

    def _check_addressee(self, body: dict[str, Any]) -> None:
        """Senders may be outsiders of another company; the robot's own company is what counts."""
        if body.get("robotCode") != self._robot_code:
            raise AuthError("robot_code")
        if self._corp_ids and id_in(body.get("chatbotCorpId")) not in self._corp_ids:
            raise AuthError("corp_id")

    def _parse(self, body: dict[str, Any], message_id: str) -> Event | Ignored:
        is_group = body.get("conversationType") in ("2", 2)
        sender_id = id_in(body.get("senderId"))
        conversation_id = id_in(body.get("conversationId")) or _private(sender_id, is_group)
        text = _text(body)
        reason = _reason_to_ignore(body, conversation_id, text)
        if reason or text is None:
            return Ignored(reason)
        return Event(
            platform="dingtalk",
            app_id=self._app_key,
            message_id=message_id,
            event_id=message_id,
            conversation_id=conversation_id,
            text=text,
            sender_id=sender_id,
            sender_name=name_in(body.get("senderNick")),
            tenant_id=id_in(body.get("chatbotCorpId")),
            conversation_name=name_in(body.get("conversationTitle")),
            is_group=is_group,
            created_ms=ms_in(body.get("createAt")),
            reply_address=_address(body, self._robot_code, is_group),
            reply_secret=_webhook(body),
        )


def _private(sender_id: str, is_group: bool) -> str:
    """The name of a one-to-one conversation that came without an id."""
    return f"p2p:{sender_id}" if sender_id and not is_group else ""


def _reason_to_ignore(body: dict[str, Any], conversation_id: str, text: str | None) -> str:
    """Why a message gets no answer; "" when it gets one."""
    if body.get("msgtype") != "text":
        return "unsupported_message"
    if not conversation_id or text is None:
        return "malformed_event"
    return "" if text else "empty_text"


def _text(body: dict[str, Any]) -> str | None:
    """The words: documented both as text.content and as content at the top."""
    content = object_in(body.get("text")).get("content", body.get("content"))
    return string_in(content).strip() if isinstance(content, str) else None


def _address(body: dict[str, Any], robot_code: str, is_group: bool) -> dict[str, str]:
    return {
        "conversation_id": id_in(body.get("conversationId")),
        "staff_id": id_in(body.get("senderStaffId")),
        "is_group": "1" if is_group else "0",
        "robot_code": robot_code,
        "expires_ms": str(ms_in(body.get("sessionWebhookExpiredTime"))),
    }


def _webhook(body: dict[str, Any]) -> str:
    """The session webhook. The outbound half decides whether its host may be talked to."""
    webhook = body.get("sessionWebhook")
    return webhook if isinstance(webhook, str) and len(webhook) <= MAX_WEBHOOK_CHARS else ""
