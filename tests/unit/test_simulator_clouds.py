"""The simulated clouds check signatures by their own code, and keys come and go by order."""

from __future__ import annotations

import base64
from typing import Any

from tests.platforms.vectors import cases
from tests.simulator.cloud_signing import Call, bce_signature, volc_signature
from tests.simulator.key_desk import KeyDesk


def call_of(given: dict[str, Any], headers: dict[str, str], body: bytes = b"") -> Call:
    lower = {name.lower(): value for name, value in headers.items()}
    return Call(given["method"], given["path"], given["query"].items(), lower, body)


@cases("bce_auth.json", "bce_auth_v1")
def test_a_bce_signature_is_checked_as_the_cloud_does(vector: dict[str, Any]) -> None:
    given, authorization = vector["input"], vector["expect"]["authorization"]

    signature = bce_signature(
        call_of(given, given["headers"]), authorization, given["secret_access_key"]
    )

    assert signature == authorization.rpartition("/")[2]


@cases("cloud_auth.json", "volc_hmac_sha256")
def test_a_volcengine_signature_is_checked_as_the_cloud_does(vector: dict[str, Any]) -> None:
    given, authorization = vector["input"], vector["expect"]["authorization"]
    body = base64.b64decode(given["body_b64"])
    headers = {
        "Host": given["host"],
        "Content-Type": given["content_type"],
        "X-Date": given["x_date"],
        "X-Content-Sha256": vector["expect"]["x_content_sha256"],
    }

    signature = volc_signature(
        call_of(given, headers, body), authorization, given["secret_access_key"]
    )

    assert signature == authorization.rpartition("=")[2]


def test_keys_given_for_a_pair_end_with_their_time_their_pair_and_by_order() -> None:
    now = 1000.0
    desk = KeyDesk("sk-1", lambda: now)
    desk.pairs["AK"] = "SK"
    timed, ends = desk.derive("AK", 86_400, ["ep-1"])

    assert desk.accepts("sk-1", "any")
    assert desk.accepts(timed, "ep-1")
    assert not desk.accepts(timed, "ep-2")
    assert ends == now + desk.lifetime_s
    now = ends
    assert not desk.accepts(timed, "ep-1")
    other, _ = desk.derive("AK", 60)
    assert desk.accepts(other, "any")
    del desk.pairs["AK"]
    assert not desk.accepts(other, "any")
    desk.pairs["AK"] = "SK"
    desk.expire()
    assert not desk.accepts(other, "any")
