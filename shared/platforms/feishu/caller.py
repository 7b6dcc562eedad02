"""Calling the gateway as Feishu does. See `shared.platforms.base.Caller`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.http_values import RawRequest
from shared.platforms.feishu.cipher import FeishuCipher, encrypt
from shared.platforms.feishu.inbound import guide_signature, platform_signature
from shared.platforms.feishu.settings import MESSAGE_TYPE, FeishuSettings
from shared.platforms.settings import reveal
from shared.platforms.text import compact_json

#: https://open.feishu.cn/document/ukTMukTMukTM/uYDNxYjL2QTM24iN0EjN/event-subscription-configure-/encrypt-key-encryption-configuration-case
SAMPLE_KEY = "test key"
SAMPLE_SEALED = "P37w+VZImNgPEO1RBhJ6RtKl7n6zymIbEG1pReEzghk="
SAMPLE_TEXT = "hello world"
#: Computed by the official SDK, lark-oapi 1.7.5.
SIGNED = ("1763791200", "1000000000", "test-encrypt-key-dev-fp5gfkrP", b'{"encrypt":"abc"}')
SIGNATURE = "b5a46273f2491dde17de317d1dee0638422b51ae43e43085b8abf13a2b0c0af1"


class FeishuCaller:
    """Feishu, as far as one bot hears of it."""

    def __init__(self, settings: FeishuSettings) -> None:
        self._app_id = settings.app_id
        self._key = next(iter(reveal(settings.encrypt_key)), "")
        self._token = next(iter(reveal(settings.verification_token)), "")
        self._is_guide = settings.signature_scheme == "guide"

    def known_answers(self) -> Mapping[str, bool]:
        """See `shared.platforms.base.Caller`."""
        return {
            "decryption": FeishuCipher(SAMPLE_KEY).decrypt(SAMPLE_SEALED) == SAMPLE_TEXT,
            "signature": platform_signature(*SIGNED) == SIGNATURE,
        }

    def message(
        self, text: str, *, message_id: str, conversation_id: str, now: float, nonce: bytes
    ) -> RawRequest:
        """See `shared.platforms.base.Caller`."""
        envelope = compact_json(self._envelope(text, message_id, conversation_id, now))
        if self._key:
            envelope = compact_json({"encrypt": encrypt(self._key, envelope, nonce)})
        body = envelope.encode()
        return RawRequest(self._headers(body, str(int(now)), nonce.hex()), body)

    def _headers(self, body: bytes, timestamp: str, nonce: str) -> dict[str, str]:
        signing_key = self._key or (self._token if self._is_guide else "")
        if not signing_key:
            return {}
        if self._is_guide:
            signature = guide_signature(timestamp, signing_key)
        else:
            signature = platform_signature(timestamp, nonce, signing_key, body)
        return {
            "x-lark-request-timestamp": timestamp,
            "x-lark-request-nonce": nonce,
            "x-lark-signature": signature,
        }

    def _envelope(
        self, text: str, message_id: str, conversation_id: str, now: float
    ) -> dict[str, Any]:
        created_ms = str(int(now * 1000))
        message = {
            "message_id": message_id,
            "create_time": created_ms,
            "chat_id": conversation_id,
            "chat_type": "p2p",
            "message_type": "text",
            "content": compact_json({"text": text}),
        }
        header = {
            "event_id": message_id,
            "event_type": MESSAGE_TYPE,
            "create_time": created_ms,
            "token": self._token,
            "app_id": self._app_id,
        }
        event = {"sender": {"sender_id": {}, "sender_type": "user"}, "message": message}
        return {"schema": "2.0", "header": header, "event": event}
