"""A bot, its message and its signature, written down without our own code's help."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from shared.http_values import RawRequest
from shared.platforms.feishu.inbound import FeishuInbound
from shared.platforms.feishu.settings import FeishuSettings

NOW = 1763791200.0
KEY = "test-encrypt-key-1"
OPTIONS = {
    "app_id": "cli_a0test",
    "app_secret": "test-app-secret-1",
    "verification_token": "test-verify-token-1",
    "encrypt_key": KEY,
}
TOKEN_ONLY = {name: value for name, value in OPTIONS.items() if name != "encrypt_key"}


def encrypted(body: bytes, key: str = KEY) -> bytes:
    padder = PKCS7(128).padder()
    padded = padder.update(body) + padder.finalize()
    iv = b"0123456789abcdef"
    cipher = Cipher(algorithms.AES(hashlib.sha256(key.encode()).digest()), modes.CBC(iv))
    encryptor = cipher.encryptor()
    raw = iv + encryptor.update(padded) + encryptor.finalize()
    return json.dumps({"encrypt": base64.b64encode(raw).decode()}).encode()


def signed(body: bytes, key: str = KEY, timestamp: str = "1763791199") -> RawRequest:
    """`body` with the headers of an authentic call; not encrypted."""
    signature = hashlib.sha256(f"{timestamp}nonce-1{key}".encode() + body).hexdigest()
    headers = {
        "x-lark-request-timestamp": timestamp,
        "x-lark-request-nonce": "nonce-1",
        "x-lark-signature": signature,
    }
    return RawRequest(headers, body)


def message(text: str = "你好", **changes: Any) -> dict[str, Any]:
    """The envelope of a text; `changes` replace members of event.message."""
    return {
        "schema": "2.0",
        "header": {
            "event_id": "event-1",
            "event_type": "im.message.receive_v1",
            "create_time": "1763791199679",
            "token": "test-verify-token-1",
            "app_id": "cli_a0test",
        },
        "event": {
            "sender": {"sender_id": {"open_id": "ou_1", "user_id": None}, "sender_type": "user"},
            "message": {
                "message_id": "om_1",
                "create_time": "1763791199100",
                "chat_id": "oc_1",
                "chat_type": "p2p",
                "message_type": "text",
                "content": json.dumps({"text": text}),
                "mentions": [],
                **changes,
            },
        },
    }


def inbound(**changes: Any) -> FeishuInbound:
    return FeishuInbound(FeishuSettings.model_validate({**OPTIONS, **changes}))


def received(envelope: dict[str, Any], **changes: Any) -> Any:
    """What a bot makes of an authentic, encrypted envelope."""
    request = signed(encrypted(json.dumps(envelope).encode()))
    return inbound(**changes).receive(request, now=NOW)
