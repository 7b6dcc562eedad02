"""Feishu's encrypted bodies: rubbish around, inside and instead of the ciphertext."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Iterator

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from tests.hostile.case import IGNORED, REFUSED, Case, message, said, signed, wire_of
from tests.hostile.values import VALUES, is_words
from tests.integration.gateway import CREDENTIALS, encrypt, sign
from tests.simulator import credentials as names
from tests.simulator.signing import feishu_encrypt

PLATFORM = "feishu"
_KEY = CREDENTIALS[names.FEISHU_ENCRYPT_KEY]


def ciphertexts() -> Iterator[Case]:
    """What stands under `encrypt`, in calls that are signed and in calls that are not."""
    for name, value in _ciphertexts().items():
        path, headers, body = sign(PLATFORM, json.dumps({"encrypt": value}).encode())
        yield Case(f"signed, encrypt is {name}", wire_of((path, headers, body)))
        yield Case(f"unsigned, encrypt is {name}", wire_of((path, {}, body)))
    for name, body in _envelopes().items():
        path, headers, body = sign(PLATFORM, body)
        yield Case(f"signed, {name}", wire_of((path, headers, body)))
        yield Case(f"unsigned, {name}", wire_of((path, {}, body)))


def words() -> Iterator[Case]:
    """Every value as the text inside the content, which is JSON in a string."""
    for name, value in VALUES.items():
        body = message(PLATFORM, f"text {name}")
        body["event"]["message"]["content"] = f'{{"text":{value.text}}}'
        lands = value.is_readable and is_words(value.decoded())
        wire = wire_of(said(PLATFORM, body))
        yield Case(f"content.text is {name}", wire, IGNORED | REFUSED, int(lands))


def checks() -> Iterator[Case]:
    """Address checks: echoed with the right token alone, and never an event."""
    token = CREDENTIALS[names.FEISHU_VERIFICATION_TOKEN]
    check = {"type": "url_verification", "token": token, "challenge": "c"}
    for name, value in VALUES.items():
        for field in ("challenge", "token", "type"):
            text = json.dumps({**check, field: "@here@"}).replace('"@here@"', value.text)
            wire = wire_of(signed(PLATFORM, text))
            yield Case(f"an address check whose {field} is {name}", wire, IGNORED | REFUSED)
    path, _, plain = sign(PLATFORM, encrypt(json.dumps({**check, "token": token[:-1]}).encode()))
    yield Case("an unsigned address check with a token nearly right", wire_of((path, {}, plain)))


def _ciphertexts() -> dict[str, object]:
    plain = json.dumps(message(PLATFORM, "sealed")).encode()
    good = base64.b64decode(feishu_encrypt(_KEY, plain, secrets.token_bytes(16)))
    return {
        **{f"{value!r}": value for value in (None, True, 0, -1, 1.5, [], {}, [good.hex()])},
        **{
            f"{text!r}": text for text in ("", " ", "=", "====", "A", "AAAA", "!" * 64, "\x00", "é")
        },
        "not base64": base64.b64encode(good).decode() + "*",
        "base64 for addresses": base64.urlsafe_b64encode(b"\xff" * 64).decode(),
        "hexadecimal": good.hex(),
        "broken into lines": base64.encodebytes(good).decode(),
        "an IV alone": _b64(good[:16]),
        "half a block": _b64(good[:-8]),
        "one byte more": _b64(good + b"x"),
        "one block less": _b64(good[:-16]),
        "without its IV": _b64(good[16:32]),
        "zeros": _b64(bytes(64)),
        "random": _b64(hashlib.sha256(b"seed").digest() * 8),
        "of another key": feishu_encrypt("another key", plain, bytes(16)),
        "of an empty key": feishu_encrypt("", plain, bytes(16)),
        "a text that is not JSON": feishu_encrypt(_KEY, b"not json", bytes(16)),
        "an empty text": feishu_encrypt(_KEY, b"", bytes(16)),
        "not UTF-8": feishu_encrypt(_KEY, b"\xff\xfe" * 50, bytes(16)),
        "encrypted twice": feishu_encrypt(_KEY, encrypt(plain), bytes(16)),
        "padding of 0": _sealed(plain + b"x" * (-len(plain) % 16) + bytes(16)),
        "padding of 17": _sealed(plain + b"\x11" * (-len(plain) % 16 + 16)),
        "padding without an end": _sealed(plain + b"x" * (-len(plain) % 16)),
        "padding alone": _sealed(b"\x10" * 16),
        "700 000 bytes of zeros": _b64(bytes(700_000)),
        "700 000 bytes of blanks": feishu_encrypt(_KEY, b" " * 700_000, bytes(16)),
    }


def _envelopes() -> dict[str, bytes]:
    plain = json.dumps(message(PLATFORM, "plain"))
    good = encrypt(plain.encode()).decode()
    return {
        "a plain message": plain.encode(),
        "a plain message beside a wrong ciphertext": b'{"encrypt":"AAAA",' + plain[1:].encode(),
        "encrypt in capitals": good.replace("encrypt", "ENCRYPT").encode(),
        "encrypt in a list": f"[{good}]".encode(),
        "encrypt in an object": f'{{"encrypt":{good}}}'.encode(),
        "encrypt twice, the last one wrong": good.replace("}", ',"encrypt":"AAAA"}').encode(),
        "a cut envelope": good[:-2].encode(),
        "an envelope with a mark": b"\xef\xbb\xbf" + good.encode(),
        "an envelope in UTF-16": good.encode("utf-16"),
    }


def _sealed(padded: bytes) -> str:
    """Whole blocks, encrypted without any padding of ours."""
    encryptor = Cipher(AES(hashlib.sha256(_KEY.encode()).digest()), CBC(bytes(16))).encryptor()
    return _b64(bytes(16) + encryptor.update(padded) + encryptor.finalize())


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
