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
from typing import Any, NamedTuple

from shared.errors import AuthError, MalformedError
from shared.http_values import RawRequest
from shared.messages import Challenge, Event, Ignored
from shared.platforms.feishu.cipher import FeishuCipher
from shared.platforms.feishu.message import read_message
from shared.platforms.feishu.settings import FeishuSettings
from shared.platforms.settings import reveal
from shared.platforms.signing import is_fresh, matches_any, read_timestamp_ms
from shared.platforms.text import id_in, object_in, parse_object, read_object, string_in

#: Nobody documents whether the last repeat, 7 h 5 min 15 s after the first call, is signed anew.
WINDOW_S = 8 * 3600
MESSAGE_TYPE = "im.message.receive_v1"
#: How the deployment guide spells it. The platform doesn't, but a test tool may.
GUIDE_MESSAGE_TYPE = "im.message.received_v1"

_log = logging.getLogger(__name__)


def platform_signature(timestamp: str, nonce: str, encrypt_key: str, body: bytes) -> str:
    """What Feishu puts into X-Lark-Signature: a plain SHA-256, over the bytes as received."""
    head = f"{timestamp}{nonce}{encrypt_key}".encode("utf-8", "surrogatepass")
    return hashlib.sha256(head + body).hexdigest()


def guide_signature(timestamp: str, key: str) -> str:
    """The deployment guide's formula; the platform never sends it."""
    text = f"{timestamp}\n{key}".encode("utf-8", "surrogatepass")
    return base64.b64encode(hmac.digest(key.encode(), text, "sha256")).decode()


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
        is_signed = self._verify(request, now)
        envelope = self._open(read_object(request.body), is_signed=is_signed)
        if envelope.get("type") == "url_verification":
            return _challenge(envelope)
        if not is_signed:
            raise AuthError("signature")
        content = _content(envelope)
        if content.app_id is not None and content.app_id != self._app_id:
            raise AuthError("app_id")
        return self._parse(content)

    def busy_answer(self) -> None:
        """Feishu shows nothing of an answer, and sends a refused event again."""

    def _verify(self, request: RawRequest, now: float) -> bool:
        """Whether the call is signed (or needs no signature); a wrong signature raises.

        The platform's page exempts address checks from signing, so one may come unsigned.
        """
        if not self._signing_keys:
            return True
        headers = request.headers
        presented = headers.get("x-lark-signature", "")
        if not presented:
            return False
        timestamp = headers.get("x-lark-request-timestamp", "")
        sent_ms = read_timestamp_ms(timestamp, seconds=True)
        if not is_fresh(sent_ms, now=now, window_s=WINDOW_S):
            raise AuthError("timestamp")
        nonce = headers.get("x-lark-request-nonce", "")
        if not matches_any(presented, self._signatures(timestamp, nonce, request.body)):
            raise AuthError("signature")
        return True

    def _signatures(self, timestamp: str, nonce: str, body: bytes) -> Iterator[str]:
        for key in self._signing_keys:
            if self._is_guide:
                yield guide_signature(timestamp, key)
            else:
                yield platform_signature(timestamp, nonce, key, body)

    def _open(self, outer: dict[str, Any], *, is_signed: bool) -> dict[str, Any]:
        """The envelope, decrypted and with its token checked.

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
            self._check_token(envelope)
        except (AuthError, MalformedError) as error:
            if is_signed:
                raise
            raise AuthError("signature") from error
        return envelope

    def _decrypt(self, encrypted: Any) -> str:
        for cipher in self._ciphers:
            try:
                return cipher.decrypt(encrypted)
            except ValueError:
                continue
        raise AuthError("decrypt")

    def _check_token(self, envelope: dict[str, Any]) -> None:
        """v2 carries the token in its header, v1 and the address check at the top."""
        if not self._tokens:
            return
        token = envelope.get("token", object_in(envelope.get("header")).get("token"))
        if not isinstance(token, str) or not matches_any(token, self._tokens):
            raise AuthError("verification_token")

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
