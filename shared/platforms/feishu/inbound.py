"""Feishu's webhook calls: verify, decrypt, parse. Facts and sources: README.md beside this file.

Order: signature over the raw bytes, decryption, JSON, verification token, app id, type.
Without an Encrypt Key the platform signs nothing, and the verification token alone decides.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from shared.errors import AuthError, MalformedError
from shared.http_values import RawRequest
from shared.messages import Challenge, Event, Ignored
from shared.platforms.feishu.cipher import FeishuCipher
from shared.platforms.feishu.message import read_message
from shared.platforms.feishu.settings import (
    GUIDE_MESSAGE_TYPE,
    MESSAGE_TYPE,
    FeishuSettings,
)
from shared.platforms.settings import reveal
from shared.platforms.signing import is_fresh, match_index, read_timestamp_ms
from shared.platforms.text import id_in, object_in, parse_object, read_object, string_in

#: Nobody documents whether the last repeat, 7 h 5 min 15 s after the first call, is signed anew.
WINDOW_S = 8 * 3600

_log = logging.getLogger(__name__)


def platform_signature(timestamp: str, nonce: str, encrypt_key: str, body: bytes) -> str:
    """What Feishu puts into X-Lark-Signature: a plain SHA-256, over the bytes as received."""
    head = f"{timestamp}{nonce}{encrypt_key}".encode("utf-8", "surrogatepass")
    return hashlib.sha256(head + body).hexdigest()


def guide_signature(timestamp: str, key: str) -> str:
    """The deployment guide's formula; the platform never sends it."""
    text = f"{timestamp}\n{key}".encode("utf-8", "surrogatepass")
    return base64.b64encode(hmac.digest(key.encode(), text, "sha256")).decode()


class _Proof(NamedTuple):
    """How a call proved to be the platform's. is_old: not with the current secret."""

    is_signed: bool
    is_old: bool = False


class _Content(NamedTuple):
    """What both envelope generations say, under one set of names."""

    event_type: str
    event_id: str
    app_id: Any
    tenant_id: str
    event: dict[str, Any]


class FeishuInbound:
    """The webhook half of one bot."""

    def __init__(self, settings: FeishuSettings) -> None:
        self._app_id = settings.app_id
        keys = reveal(settings.encrypt_key)
        self._ciphers = tuple(FeishuCipher(key) for key in keys)
        self._tokens = reveal(settings.verification_token)
        self._is_guide = settings.signature_scheme == "guide"
        self._signing_keys = keys or (self._tokens if self._is_guide else ())
        self._spelling_noted = False

    def receive(self, request: RawRequest, *, now: float) -> Event | Challenge | Ignored:
        """See `shared.platforms.base.Inbound`."""
        proof = self._verify(request, now)
        envelope, by_old_token = self._open(read_object(request.body), is_signed=proof.is_signed)
        if envelope.get("type") == "url_verification":
            return _challenge(envelope)
        if not proof.is_signed:
            raise AuthError("signature")
        content = _content(envelope)
        if content.app_id is not None and content.app_id != self._app_id:
            raise AuthError("app_id")
        received = self._parse(content)
        if (proof.is_old or by_old_token) and isinstance(received, Event):
            return replace(received, by_old_secret=True)
        return received

    def busy_answer(self) -> None:
        """Feishu shows nothing of an answer, and sends a refused event again."""

    def _verify(self, request: RawRequest, now: float) -> _Proof:
        """Whether the call is signed (or needs no signature); a wrong signature raises.

        The platform's page exempts address checks from signing, so one may come unsigned.
        """
        if not self._signing_keys:
            return _Proof(is_signed=True)
        headers = request.headers
        presented = headers.get("x-lark-signature", "")
        if not presented:
            return _Proof(is_signed=False)
        timestamp = headers.get("x-lark-request-timestamp", "")
        sent_ms = read_timestamp_ms(timestamp, seconds=True)
        if not is_fresh(sent_ms, now=now, window_s=WINDOW_S):
            raise AuthError("timestamp")
        nonce = headers.get("x-lark-request-nonce", "")
        index = match_index(presented, self._signatures(timestamp, nonce, request.body))
        if index < 0:
            raise AuthError("signature")
        return _Proof(is_signed=True, is_old=index > 0)

    def _signatures(self, timestamp: str, nonce: str, body: bytes) -> Iterator[str]:
        for key in self._signing_keys:
            if self._is_guide:
                yield guide_signature(timestamp, key)
            else:
                yield platform_signature(timestamp, nonce, key, body)

    def _open(self, outer: dict[str, Any], *, is_signed: bool) -> tuple[dict[str, Any], bool]:
        """The envelope, decrypted and with its token checked; whether the token is an old one.

        An unsigned call gets one answer for every fault of its ciphertext: answers that tell
        wrong padding from wrong JSON would let anyone decrypt a recorded body byte by byte.
        """
        encrypted = outer.get("encrypt")
        if self._ciphers and not isinstance(encrypted, str):
            raise AuthError("not_encrypted")
        try:
            envelope = outer
            if self._ciphers or "encrypt" in outer:
                envelope = parse_object(self._decrypt(encrypted))
            by_old_token = self._check_token(envelope)
        except (AuthError, MalformedError) as error:
            if is_signed:
                raise
            raise AuthError("signature") from error
        return envelope, by_old_token

    def _decrypt(self, encrypted: Any) -> str:
        for cipher in self._ciphers:
            try:
                return cipher.decrypt(encrypted)
            except ValueError:
                continue
        raise AuthError("decrypt")

    def _check_token(self, envelope: dict[str, Any]) -> bool:
        """Whether it is an old one. v2 has it in its header, v1 and address checks at the top."""
        if not self._tokens:
            return False
        token = envelope.get("token", object_in(envelope.get("header")).get("token"))
        index = match_index(token, self._tokens) if isinstance(token, str) else -1
        if index < 0:
            raise AuthError("verification_token")
        return index > 0

    def _parse(self, content: _Content) -> Event | Ignored:
        if content.event_type == GUIDE_MESSAGE_TYPE and not self._spelling_noted:
            self._spelling_noted = True
            _log.warning("event.guide_spelling", extra={"event_type": GUIDE_MESSAGE_TYPE})
        if content.event_type not in (MESSAGE_TYPE, GUIDE_MESSAGE_TYPE):
            return Ignored("not_a_message")
        return read_message(self._app_id, content.event_id, content.tenant_id, content.event)


def _challenge(envelope: dict[str, Any]) -> Challenge | Ignored:
    challenge = string_in(envelope.get("challenge"))
    return Challenge({"challenge": challenge}) if challenge else Ignored("malformed_event")


def _content(envelope: dict[str, Any]) -> _Content:
    event = object_in(envelope.get("event"))
    header = envelope.get("header")
    if isinstance(header, dict):
        kind, event_id, about = header.get("event_type"), header.get("event_id"), header
    else:
        kind, event_id, about = event.get("type"), envelope.get("uuid"), event
    tenant_id = id_in(about.get("tenant_key"))
    return _Content(string_in(kind), id_in(event_id), about.get("app_id"), tenant_id, event)
