"""Why Feishu's call was refused: the checks of `inbound.py`, each with what was seen."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from shared.http_values import RawRequest
from shared.platforms.feishu.cipher import FeishuCipher
from shared.platforms.feishu.inbound import WINDOW_S, guide_signature, platform_signature
from shared.platforms.feishu.settings import FeishuSettings
from shared.platforms.settings import reveal
from shared.platforms.signing import match_index
from shared.platforms.steps import (
    Step,
    first_match,
    json_step,
    name_in,
    signature_facts,
    timestamp_step,
)
from shared.platforms.text import object_in

_BLOCK_BYTES = 16


def explain(settings: FeishuSettings, request: RawRequest, *, now: float) -> Iterator[Step]:
    """See `shared.platforms.base.Explain`."""
    tokens, keys = reveal(settings.verification_token), reveal(settings.encrypt_key)
    signing_keys = keys or (tokens if settings.signature_scheme == "guide" else ())
    if signing_keys:
        stamp = request.headers.get("x-lark-request-timestamp", "")
        yield timestamp_step(stamp, seconds=True, now=now, window_s=WINDOW_S)
        yield _signature(settings, signing_keys, request)
    is_json, outer = json_step(request.body)
    yield is_json
    encrypted = outer.get("encrypt")
    if keys:
        is_text = isinstance(encrypted, str)
        yield Step("not_encrypted", is_text, {"given": type(encrypted).__name__})
    envelope: dict[str, Any] | None = outer
    if keys or "encrypt" in outer:
        opened, plain = _decrypt(keys, encrypted)
        yield opened
        envelope = None
        if opened.passed:
            is_json, envelope = json_step(plain.encode())
            yield is_json
    if envelope is not None:
        yield from _envelope(settings, tokens, envelope)


def _signature(settings: FeishuSettings, keys: tuple[str, ...], request: RawRequest) -> Step:
    headers, body, scheme = request.headers, request.body, settings.signature_scheme
    presented = headers.get("x-lark-signature", "")
    stamp, nonce = (headers.get(f"x-lark-request-{name}", "") for name in ("timestamp", "nonce"))

    def platform_text(key: str) -> bytes:
        return f"{stamp}{nonce}{key}".encode("utf-8", "surrogatepass") + body

    def guide_text(key: str) -> bytes:
        return f"{stamp}\n{key}".encode("utf-8", "surrogatepass")

    def by_platform(key: str) -> str:
        return platform_signature(stamp, nonce, key, body)

    def by_guide(key: str) -> str:
        return guide_signature(stamp, key)

    is_guide = scheme == "guide"
    sign, other = (by_guide, by_platform) if is_guide else (by_platform, by_guide)
    facts = {
        "scheme": scheme,
        "expected_form": "base64" if is_guide else "hex",
        "nonce_length": len(nonce),
        **signature_facts(presented, keys, sign, guide_text if is_guide else platform_text),
    }
    if facts["matched"] < 0:
        facts["would_match"] = first_match(
            presented.strip(),
            {
                f"signature_scheme {'platform' if is_guide else 'guide'}": map(other, keys),
                "verification token as key": map(sign, reveal(settings.verification_token)),
                "key without white space": (sign(key.strip()) for key in keys),
            },
        )
    return Step("signature", facts["matched"] >= 0, facts)


def _decrypt(keys: tuple[str, ...], encrypted: Any) -> tuple[Step, str]:
    given = encrypted if isinstance(encrypted, str) else ""
    try:
        raw, is_base64 = base64.b64decode(given, validate=True), True
    except ValueError:
        raw, is_base64 = b"", False
    facts = {
        "length": len(given),
        "is_base64": is_base64,
        "whole_blocks": len(raw) >= 2 * _BLOCK_BYTES and len(raw) % _BLOCK_BYTES == 0,
        "tried": len(keys),
    }
    for index, key in enumerate(keys):
        try:
            plain = FeishuCipher(key).decrypt(given)
        except ValueError:
            continue
        return Step("decrypt", True, {**facts, "opened_by": index}), plain
    return Step("decrypt", False, {**facts, "opened_by": -1}), ""


def _envelope(
    settings: FeishuSettings, tokens: tuple[str, ...], envelope: dict[str, Any]
) -> Iterator[Step]:
    header = object_in(envelope.get("header"))
    if tokens:
        token = envelope.get("token", header.get("token"))
        index = match_index(token, tokens) if isinstance(token, str) else -1
        facts = {
            "given": type(token).__name__,
            "length": len(token) if isinstance(token, str) else 0,
            "tried": len(tokens),
            "matched": index,
        }
        yield Step("verification_token", index >= 0, facts)
    if envelope.get("type") != "url_verification":
        app_id = (header or object_in(envelope.get("event"))).get("app_id")
        yield Step(
            "app_id",
            app_id is None or app_id == settings.app_id,
            {"given": name_in(app_id), "expected": settings.app_id},
        )
