"""HMAC-SHA256, Volcengine's signature. Pure.

https://www.volcengine.com/docs/6369/67269; the vectors are those of the volcengine SDK.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from urllib.parse import quote

from workers.keys.pair import KeyPair

SIGNED_HEADERS = "content-type;host;x-content-sha256;x-date"

_UNRESERVED = "-_.~"


def utc(now: float) -> str:
    """Unix time as `X-Date` writes it."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))


def body_digest(body: bytes) -> str:
    """The header `X-Content-Sha256`."""
    return hashlib.sha256(body).hexdigest()


def authorization(
    pair: KeyPair,
    method: str,
    path: str,
    query: Mapping[str, str],
    body: bytes,
    *,
    host: str,
    content_type: str,
    region: str,
    service: str,
    date: str,
) -> str:
    """The header `Authorization`. date: as `utc` gives it."""
    canonical = "\n".join(
        [
            method,
            quote(path, safe=f"/{_UNRESERVED}"),
            "&".join(f"{_encoded(name)}={_encoded(query[name])}" for name in sorted(query)),
            f"content-type:{content_type}",
            f"host:{host}",
            f"x-content-sha256:{body_digest(body)}",
            f"x-date:{date}",
            "",
            SIGNED_HEADERS,
            body_digest(body),
        ]
    )
    scope = f"{date[:8]}/{region}/{service}/request"
    text = f"HMAC-SHA256\n{date}\n{scope}\n{body_digest(canonical.encode())}"
    key = pair.secret.encode()
    for part in scope.split("/"):
        key = _hmac(key, part)
    return (
        f"HMAC-SHA256 Credential={pair.ak_id}/{scope}, SignedHeaders={SIGNED_HEADERS}, "
        f"Signature={_hmac(key, text).hex()}"
    )


def _encoded(text: str) -> str:
    return quote(text, safe=_UNRESERVED)


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
