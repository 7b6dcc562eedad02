"""How the platforms sign and encrypt, written from their documentation and nothing of ours."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from functools import lru_cache

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

_BLOCK_BYTES = 16
_SEAL_BYTES = 9


def dingtalk_sign(timestamp_ms: str, app_secret: str) -> str:
    """The `sign` header: https://open.dingtalk.com/document/orgapp/receive-message."""
    message = f"{timestamp_ms}\n{app_secret}".encode()
    return base64.b64encode(hmac.digest(app_secret.encode(), message, "sha256")).decode()


def feishu_signature(timestamp: str, nonce: str, encrypt_key: str, body: bytes) -> str:
    """The `X-Lark-Signature` header, over the bytes as they are sent:
    https://open.feishu.cn/document/event-subscription-guide/event-subscriptions/event-subscription-configure-/encrypt-key-encryption-configuration-case.
    """
    return hashlib.sha256(f"{timestamp}{nonce}{encrypt_key}".encode() + body).hexdigest()


def feishu_encrypt(encrypt_key: str, plain: bytes, initial: bytes) -> str:
    """The value of `encrypt`: base64(iv ‖ AES-256-CBC(PKCS#7)), key = SHA-256(encrypt_key)."""
    fill = _BLOCK_BYTES - len(plain) % _BLOCK_BYTES
    cipher = Cipher(AES(_feishu_key(encrypt_key)), CBC(initial)).encryptor()
    sealed = cipher.update(plain + bytes([fill]) * fill) + cipher.finalize()
    return base64.b64encode(initial + sealed).decode()


def seal(secret: str, *fields: str | int) -> str:
    """An id that carries `fields` and proves that we made it: needs no memory of it anywhere."""
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
    return _base64url(text) + "." + _base64url(_mac(secret, text))


def unseal(secret: str, sealed: str) -> list[str | int] | None:
    """The fields inside `sealed`; None when we did not make it with this secret."""
    encoded, _, mac = sealed.partition(".")
    try:
        text = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    except ValueError:
        return None
    if not hmac.compare_digest(_base64url(_mac(secret, text)).encode(), mac.encode()):
        return None
    fields: list[str | int] = json.loads(text)
    return fields


@lru_cache(maxsize=8)
def _feishu_key(encrypt_key: str) -> bytes:
    return hashlib.sha256(encrypt_key.encode()).digest()


def _mac(secret: str, text: bytes) -> bytes:
    return hmac.digest(b"simulator seal\n" + secret.encode(), text, "sha256")[:_SEAL_BYTES]


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
