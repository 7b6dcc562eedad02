"""Calling the gateway as DingTalk does. See `shared.platforms.base.Caller`."""

from __future__ import annotations

from collections.abc import Mapping

from shared.http_values import RawRequest
from shared.platforms.dingtalk.inbound import guide_signature, platform_signature
from shared.platforms.dingtalk.settings import DingTalkSettings
from shared.platforms.settings import reveal
from shared.platforms.text import compact_json

#: Timestamp and secret that https://open.dingtalk.com/document/orgapp/receive-message prints; what
#: they give was computed by two published connectors.
SAMPLE = ("1577262236757", "this is a secret")
SIGNATURE = "DJrE6qdyVGCQz9z5r2MDuNcNAhwYnuAkyj13cx169CA="


class DingTalkCaller:
    """DingTalk, as far as one bot hears of it."""

    def __init__(self, settings: DingTalkSettings) -> None:
        self._secret = reveal(settings.app_secret)[0]
        self._robot_code = settings.robot_code
        self._corp_id = next(iter(settings.corp_ids), "")
        is_guide = settings.signature_scheme == "guide"
        self._sign = guide_signature if is_guide else platform_signature

    def known_answers(self) -> Mapping[str, bool]:
        """See `shared.platforms.base.Caller`."""
        return {"signature": platform_signature(*SAMPLE) == SIGNATURE}

    def message(
        self, text: str, *, message_id: str, conversation_id: str, now: float, nonce: bytes
    ) -> RawRequest:
        """See `shared.platforms.base.Caller`. Without webhook and staff id nobody can be answered.

        DingTalk signs no nonce.
        """
        del nonce
        timestamp = str(int(now * 1000))
        body = {
            "msgId": message_id,
            "msgtype": "text",
            "text": {"content": text},
            "conversationType": "1",
            "conversationId": conversation_id,
            "chatbotCorpId": self._corp_id,
            "robotCode": self._robot_code,
            "createAt": int(now * 1000),
        }
        headers = {"timestamp": timestamp, "sign": self._sign(timestamp, self._secret)}
        return RawRequest(headers, compact_json(body).encode())
