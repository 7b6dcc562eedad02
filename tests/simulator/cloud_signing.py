"""How Baidu's and Volcengine's gateways check a call, written from their documentation alone.

https://cloud.baidu.com/doc/Reference/s/njwvz1yfu, https://www.volcengine.com/docs/6369/67269
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

#: A header as it was sent, by its lower-case name.
Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Call:
    """What was received, as far as signatures cover it."""

    method: str
    path: str
    query: Iterable[tuple[str, str]]
    headers: Headers
    body: bytes = b""

    def sorted_query(self) -> str:
        return "&".join(sorted(f"{_percent(k)}={_percent(v)}" for k, v in self.query))


def bce_signature(call: Call, authorization: str, secret: str) -> str:
    """What the last part of a bce-auth-v1 `Authorization` must be."""
    version, key_id, timestamp, period, names, _ = authorization.split("/")
    begin = "/".join((version, key_id, timestamp, period))
    lines = []
    for name in names.split(";") if names else _bce_usual(call.headers):
        value = call.headers.get(name, "").strip()
        if value:
            lines.append(_percent(name) + ":" + _percent(value))
    text = "\n".join(
        (call.method.upper(), _path(call.path), call.sorted_query(), "\n".join(sorted(lines)))
    )
    return _hex_hmac(_hex_hmac(secret, begin), text)


def volc_signature(call: Call, authorization: str, secret: str) -> str:
    """What `Signature=` in a Volcengine `Authorization` must be."""
    fields = dict(
        part.split("=", 1) for part in authorization.removeprefix("HMAC-SHA256 ").split(", ")
    )
    _, date, region, service, end = fields["Credential"].split("/")
    names = fields["SignedHeaders"].split(";")
    block = "".join(f"{name}:{call.headers.get(name, '').strip()}\n" for name in names)
    digest = hashlib.sha256(call.body).hexdigest()
    request = "\n".join(
        (call.method, _path(call.path), call.sorted_query(), block, ";".join(names), digest)
    )
    hashed = hashlib.sha256(request.encode()).hexdigest()
    scope = f"{date}/{region}/{service}/{end}"
    to_sign = "\n".join(("HMAC-SHA256", call.headers.get("x-date", ""), scope, hashed))
    key = secret.encode()
    for word in (date, region, service, end, to_sign):
        key = hmac.new(key, word.encode(), hashlib.sha256).digest()
    return key.hex()


def _bce_usual(headers: Headers) -> list[str]:
    usual = ("content-length", "content-md5", "content-type", "host")
    return [name for name in headers if name in usual or name.startswith("x-bce-")]


def _path(path: str) -> str:
    return quote(path, safe="/~")


def _percent(text: str) -> str:
    return quote(text, safe="~")


def _hex_hmac(key: str, text: str) -> str:
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()
