"""bce-auth-v1, Baidu's signature. Pure.

https://cloud.baidu.com/doc/Reference/s/njwvz1yfu; the vectors are those of bce-python-sdk.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from workers.keys.pair import KeyPair

VALID_S = 1800  #: how long a signature is good for

_SIGNED_BY_DEFAULT = ("host", "content-md5", "content-length", "content-type")
_UNRESERVED = "-_.~"


def utc(now: float) -> str:
    """Unix time as `x-bce-date` and the signature write it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))


def authorization(
    pair: KeyPair,
    method: str,
    path: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    *,
    now: float,
    signed: Sequence[str] = (),
) -> str:
    """The header `Authorization`. The body is not signed.

    signed: lower-case names of the headers to sign, sorted; none: the usual ones that are there.
    """
    prefix = f"bce-auth-v1/{pair.ak_id}/{utc(now)}/{VALID_S}"
    text = canonical_request(method, path, query, headers, signed)
    signature = _hmac(signing_key(pair.secret, prefix), text)
    return f"{prefix}/{';'.join(signed)}/{signature}"


def signing_key(secret: str, prefix: str) -> str:
    """The key of one signature; its hex text is what signs."""
    return _hmac(secret, prefix)


def canonical_request(
    method: str,
    path: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    signed: Sequence[str] = (),
) -> str:
    """What is signed of a request."""
    parameters = sorted(f"{_encoded(name)}={_encoded(value)}" for name, value in query.items())
    lines = sorted(
        f"{_encoded(name.lower())}:{_encoded(value.strip())}"
        for name, value in headers.items()
        if value.strip() and _is_signed(name.lower(), signed)
    )
    return "\n".join([method, quote(path, safe=f"/{_UNRESERVED}"), "&".join(parameters), *lines])


def _is_signed(name: str, signed: Sequence[str]) -> bool:
    return name in signed if signed else name in _SIGNED_BY_DEFAULT or name.startswith("x-bce-")


def _encoded(text: str) -> str:
    return quote(text, safe=_UNRESERVED)


def _hmac(key: str, text: str) -> str:
    return hmac.digest(key.encode(), text.encode(), "sha256").hex()
