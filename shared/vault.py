"""Seals what is secret in Redis: session webhooks, access tokens, the key ring.

Keys come from the master key if there is one, else from the owner's own secret, so that Redis alone
opens nothing. Whatever is listed opens; the newest seals.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from shared.errors import PermanentError

_MASTER = "clawdbot vault 1, master key"
_BOT = "clawdbot vault 1, bot secret"
_MODEL = "clawdbot vault 1, model key"
_KEY_BYTES = 32


class Vault:
    """Seals and opens short texts under one context; what another context sealed stays shut."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        """`keys`: 32 bytes each, the sealing one first."""
        if not keys:
            raise ValueError("a vault needs a key: set CLAWDBOT_MASTER_KEY or the bot's app secret")
        self._fernet = MultiFernet([Fernet(urlsafe_b64encode(key)) for key in keys])

    @classmethod
    def for_bot(cls, master_keys: Sequence[str], bot_secrets: Sequence[str], context: str) -> Vault:
        """The vault of one bot; both lists newest first. `context`: the bot and what is sealed.

        Bot secrets open even beside a master key, so introducing one loses nothing.
        """
        return cls([*_all(master_keys, _MASTER, context), *_all(bot_secrets, _BOT, context)])

    @classmethod
    def for_model(
        cls, master_keys: Sequence[str], own_secrets: Sequence[str], context: str
    ) -> Vault:
        """Likewise of a model. `own_secrets`: none for what the master keys alone may open.

        Raises:
            ValueError: there is neither a master key nor a secret.
        """
        return cls([*_all(master_keys, _MASTER, context), *_all(own_secrets, _MODEL, context)])

    def seal(self, text: str) -> str:
        """`text`, encrypted and authenticated, in URL-safe base64; different every time."""
        return self._fernet.encrypt(text.encode("utf-8", "surrogatepass")).decode("ascii")

    def open(self, sealed: str) -> str:
        """What was sealed.

        Raises:
            PermanentError: `vault:unreadable`; no key listed here sealed it.
        """
        try:
            opened = self._fernet.decrypt(sealed.encode("utf-8", "replace"))
        except InvalidToken as error:
            raise PermanentError(
                "vault:unreadable",
                "a secret in Redis was sealed with a key that is not listed any more: put the "
                "former CLAWDBOT_MASTER_KEY or app secret back as the second item of a JSON list",
            ) from error
        return opened.decode("utf-8", "surrogatepass")


def _all(materials: Sequence[str], purpose: str, context: str) -> list[bytes]:
    return [_derived(material, f"{purpose}\x00{context}") for material in materials]


def _derived(material: str, info: str) -> bytes:
    hkdf = HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=None, info=info.encode())
    return hkdf.derive(material.encode())
