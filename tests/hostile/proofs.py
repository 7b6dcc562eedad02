"""Calls whose proof is not quite one: signatures, timestamps and where they stand."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator, Mapping

from tests.hostile.case import Case, message, said, wire_of
from tests.integration.gateway import CREDENTIALS, encrypt
from tests.simulator import credentials as names
from tests.simulator.events import Request
from tests.simulator.signing import dingtalk_sign, feishu_signature

SIGNATURE = {"dingtalk": "sign", "feishu": "X-Lark-Signature"}
TIMESTAMP = {"dingtalk": "timestamp", "feishu": "X-Lark-Request-Timestamp"}
NONCE = "X-Lark-Request-Nonce"
HOUR_S = 3600
WINDOW_S = {"dingtalk": HOUR_S, "feishu": 8 * HOUR_S}


def signatures(platform: str) -> Iterator[Case]:
    """A call like the real one, but for its signature."""
    name = SIGNATURE[platform]
    for told, spoil in _SPOILED.items():
        path, headers, body = said(platform, message(platform, told))
        spoiled = {**headers, name: spoil(headers[name])}
        yield Case(f"the signature {told}", wire_of((path, spoiled, body)))
    path, headers, body = said(platform, message(platform, "unsigned"))
    rest = {key: value for key, value in headers.items() if key != name}
    yield Case("no signature", wire_of((path, rest, body)))
    yield Case("no header of proof at all", wire_of((path, {}, body)))
    query = f"{path}?{name}={headers[name]}&{TIMESTAMP[platform]}={headers[TIMESTAMP[platform]]}"
    yield Case("the proof in the query", wire_of((path, {}, body), path=query))
    renamed = {**rest, f"X-{name}": headers[name], f"{name}-": headers[name]}
    yield Case("the signature under another name", wire_of((path, renamed, body)))
    for guess in ("", "null", "undefined", "None", "0", "true", "[]", "*", "é☃", "a" * 8000):
        wire = wire_of((path, {**headers, name: guess}, body))
        yield Case(f"the signature is {guess[:9]!r}", wire)


def secrets(platform: str) -> Iterator[Case]:
    """Signed by the right formula with the wrong secret, or by another formula."""
    stamp = str(int(time.time() * (1000 if platform == "dingtalk" else 1)))
    right = names.DINGTALK_APP_SECRET if platform == "dingtalk" else names.FEISHU_ENCRYPT_KEY
    nearly = {"cut": CREDENTIALS[right][:-1], "with its line's end": CREDENTIALS[right] + "\n"}
    for told, guess in {
        "empty": "",
        "blank": " ",
        "NUL": "\x00",
        "secret": "secret",
        **nearly,
    }.items():
        yield _by(platform, f"a secret: {told}", _official(platform, stamp, guess), stamp)
    for told, value in CREDENTIALS.items():
        if value not in (CREDENTIALS[right], "") and told.startswith("CLAWDBOT_"):
            yield _by(platform, f"the secret {told}", _official(platform, stamp, value), stamp)
    for told, formula in _FORMULAS.items():
        key = CREDENTIALS[right]
        yield _by(platform, told, lambda _, f=formula, k=key: f(stamp, k), stamp)


def timestamps(platform: str) -> Iterator[Case]:
    """Signed as it should be, at a time that is none, or too far off."""
    now = int(time.time())
    near = WINDOW_S[platform] + 60
    unit = 1000 if platform == "dingtalk" else 1
    odd = {
        **{
            f"{off} s off": str((now + off) * unit) for off in (near, -near, 10**9, -now, -(10**10))
        },
        **{f"written {text[:12]!r}": text for text in _odd_times(now * unit)},
    }
    key = names.DINGTALK_APP_SECRET if platform == "dingtalk" else names.FEISHU_ENCRYPT_KEY
    for told, stamp in odd.items():
        make = _official(platform, stamp, CREDENTIALS[key])
        yield _by(platform, f"the right secret at a time {told}", make, stamp)


def replays(platform: str) -> Iterator[Case]:
    """What belongs to one call, on another."""
    first = said(platform, message(platform, "first"))
    second = said(platform, message(platform, "second"))
    if platform == "feishu":  # DingTalk's signature covers no body: see its README
        yield Case("another call's signature", wire_of((first[0], first[1], second[2])))
        yield Case("another call's nonce", wire_of(_with(first, NONCE, second[1][NONCE])))
        yield Case("no nonce", wire_of(_with(first, NONCE, "")))
    other = "feishu" if platform == "dingtalk" else "dingtalk"
    yield Case("another platform's call", wire_of(said(other, message(other, "x")), path=first[0]))
    yield Case("an unknown bot", wire_of(first, path=f"{first[0]}/nobody"))


def _official(platform: str, stamp: str, secret: str) -> Callable[[bytes], str]:
    if platform == "dingtalk":
        return lambda _: dingtalk_sign(stamp, secret)
    return lambda body: feishu_signature(stamp, "1", secret, body)


def _by(platform: str, told: str, make: Callable[[bytes], str], stamp: str) -> Case:
    body = json.dumps(message(platform, told)).encode()
    if platform == "feishu":
        body = encrypt(body)
    headers = {SIGNATURE[platform]: make(body), TIMESTAMP[platform]: stamp}
    if platform == "feishu":
        headers[NONCE] = "1"
    return Case(f"signed with {told}", wire_of((f"/{platform}/webhook", headers, body)))


def _with(request: Request, name: str, value: str) -> Request:
    path, headers, body = request
    return path, {**headers, name: value}, body


def _odd_times(now: int) -> tuple[str, ...]:
    return (
        *("", "0", "-1", f"-{now}", f"+{now}", f"{now}.0", f"{now}e0", hex(now), f"{now}L", "NaN"),
        *("Infinity", "null", "now", "2026-11-26T00:00:00Z", f"{now:_}", f"{now:,}", f"{now};"),
        *(f"{now},{now}", f"{now} {now}", f"{now}\x7f", f"００{now}", f"{now}000000"),
        *("9" * 16, "9" * 17, "9" * 400, "1" + "0" * 4500),
        "".join(chr(0x0660 + int(digit)) for digit in str(now)),  # Arabic digits
    )


_SPOILED: Mapping[str, Callable[[str], str]] = {
    "is reversed": lambda value: value[::-1],
    "is in the other case": str.swapcase,
    "lacks its last character": lambda value: value[:-1],
    "lacks its first character": lambda value: value[1:],
    "stands twice": lambda value: value * 2,
    "stands in a list": lambda value: f"{value}, {value}",
    "stands in quotes": lambda value: f'"{value}"',
    "has a prefix": lambda value: f"sha256={value}",
    "has a blank inside": lambda value: f"{value[:9]} {value[9:]}",
    "has a byte more": lambda value: f"{value}\x7f",
    "has one other character": lambda value: ("0" if value[0] != "0" else "1") + value[1:],
    "is in base64 once more": lambda value: base64.b64encode(value.encode()).decode(),
    "is in hex": lambda value: value.encode().hex(),
    "is percent-encoded": lambda value: "".join(f"%{ord(letter):02X}" for letter in value),
    "is a digest of itself": lambda value: hashlib.sha256(value.encode()).hexdigest(),
    "is in wide letters": lambda value: "".join(chr(ord(letter) + 0xFEE0) for letter in value),
}

_FORMULAS: Mapping[str, Callable[[str, str], str]] = {
    "SHA-1": lambda stamp, key: hashlib.sha1(f"{stamp}1{key}".encode()).hexdigest(),
    "MD5": lambda stamp, key: hashlib.md5(f"{stamp}1{key}".encode()).hexdigest(),
    "the guide's hex": lambda stamp, key: _mac(stamp, key).hex(),
    "key and message swapped": lambda stamp, key: base64.b64encode(
        hmac.digest(stamp.encode(), key.encode(), "sha256")
    ).decode(),
    "the timestamp alone": lambda stamp, key: base64.b64encode(
        hmac.digest(key.encode(), stamp.encode(), "sha256")
    ).decode(),
    "a body that is not there": lambda stamp, key: hashlib.sha256(
        f"{stamp}1{key}".encode()
    ).hexdigest(),
    "no secret": lambda stamp, key: hashlib.sha256(stamp.encode()).hexdigest(),
}


def _mac(stamp: str, key: str) -> bytes:
    return hmac.digest(key.encode(), f"{stamp}\n{key}".encode(), "sha256")
