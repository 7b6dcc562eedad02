"""The clouds' signatures equal those that the clouds' own SDKs made."""

from __future__ import annotations

import base64
from typing import Any

from tests.platforms.vectors import cases
from workers.keys import bce_auth, volc_auth
from workers.keys.pair import KeyPair


def pair_of(given: dict[str, Any]) -> KeyPair:
    return KeyPair(given["access_key_id"], given["secret_access_key"])


@cases("bce_auth.json", "bce_auth_v1")
def test_bce_auth_equals_the_vector(vector: dict[str, Any]) -> None:
    given, expect = vector["input"], vector["expect"]
    request = (given["method"], given["path"], given["query"], given["headers"])
    signed = given["headers_to_sign"] or ()

    made = bce_auth.authorization(
        pair_of(given), *request, now=given["timestamp_unix_s"], signed=signed
    )

    assert given["expiration_s"] == bce_auth.VALID_S
    assert bce_auth.canonical_request(*request, signed) == expect["canonical_request"]
    prefix = "/".join(expect["authorization"].split("/")[:4])
    assert bce_auth.signing_key(given["secret_access_key"], prefix) == expect["signing_key"]
    assert made == expect["authorization"]


@cases("cloud_auth.json", "volc_hmac_sha256")
def test_volc_auth_equals_the_vector(vector: dict[str, Any]) -> None:
    given, expect = vector["input"], vector["expect"]
    body = base64.b64decode(given["body_b64"])

    made = volc_auth.authorization(
        pair_of(given),
        given["method"],
        given["path"],
        given["query"],
        body,
        host=given["host"],
        content_type=given["content_type"],
        region=given["region"],
        service=given["service"],
        date=given["x_date"],
    )

    assert volc_auth.body_digest(body) == expect["x_content_sha256"]
    assert made == expect["authorization"]
    assert volc_auth.utc(1763791200) == "20251122T060000Z"


def test_a_pair_shows_its_fingerprint_and_never_its_secret() -> None:
    pair = KeyPair("AK1", "sk-very-secret")

    assert "very-secret" not in repr(pair)
    assert pair.id == KeyPair("another id", "sk-very-secret").id
    assert pair.id != KeyPair("AK1", "sk-other").id
    assert len(pair.id) == 8
