"""Decrypting what Feishu sends when an Encrypt Key is set.

base64(iv[16] + AES-256-CBC(PKCS#7(UTF-8 text))), key = SHA-256(encrypt key):
https://open.feishu.cn/document/ukTMukTMukTM/uYDNxYjL2QTM24iN0EjN/event-subscription-configure-/encrypt-key-encryption-configuration-case
"""

from __future__ import annotations

import base64
import hashlib

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

_BLOCK_BYTES = 16


def decrypt(encrypted: str, encrypt_key: str) -> str:
    """The text in `encrypted`.

    Raises:
        ValueError: not base64, a wrong length, wrong padding (mostly: another key), not UTF-8.
    """
    raw = base64.b64decode(encrypted, validate=True)
    iv, blocks = raw[:_BLOCK_BYTES], raw[_BLOCK_BYTES:]
    if not blocks or len(blocks) % _BLOCK_BYTES:
        raise ValueError("the ciphertext is not an IV and whole blocks")
    cipher = Cipher(algorithms.AES(hashlib.sha256(encrypt_key.encode()).digest()), modes.CBC(iv))
    decryptor = cipher.decryptor()
    unpadder = PKCS7(_BLOCK_BYTES * 8).unpadder()
    padded = decryptor.update(blocks) + decryptor.finalize()
    return (unpadder.update(padded) + unpadder.finalize()).decode("utf-8")
