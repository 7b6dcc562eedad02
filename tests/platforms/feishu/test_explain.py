"""Why Feishu's call was refused, as an operator reads it at LOG_LEVEL=DEBUG."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from shared.errors import RequestRejectedError
from shared.http_values import RawRequest
from shared.platforms.feishu.explain import explain
from shared.platforms.feishu.inbound import guide_signature
from shared.platforms.feishu.settings import FeishuSettings
from tests.platforms.conformance import assert_nothing_is_told
from tests.platforms.feishu.samples import (
    KEY,
    NOW,
    OPTIONS,
    encrypted,
    inbound,
    message,
    signed,
)

TOKEN = OPTIONS["verification_token"]
BODY = json.dumps(message()).encode()


def refused(
    request: RawRequest, step_named: str = "", **changes: Any
) -> tuple[str, dict[str, Any]]:
    """The reason, and the facts of the check that it stands for (or of another one)."""
    with pytest.raises(RequestRejectedError) as caught:
        inbound(**changes).receive(request, now=NOW)
    settings = FeishuSettings.model_validate({**OPTIONS, **changes})
    steps = list(explain(settings, request, now=NOW))
    reason = caught.value.reason
    failed = [step for step in steps if step.name == (step_named or reason) and not step.passed]
    assert_nothing_is_told(steps, KEY, TOKEN, "你好你好", *request.headers.values())
    return reason, dict(failed[0].facts)


def with_header(request: RawRequest, name: str, value: str) -> RawRequest:
    return RawRequest({**request.headers, f"x-lark-{name}": value}, request.body)


@pytest.mark.parametrize(("age_s", "digits"), [(9 * 3600, 10), (-9 * 3600, 13)])
def test_a_timestamp_outside_the_window_tells_by_how_much(age_s: int, digits: int) -> None:
    stamp = f"{int(NOW) - age_s}".ljust(digits, "0")

    reason, facts = refused(signed(encrypted(BODY), timestamp=stamp))

    assert reason == "timestamp"
    assert (facts["behind_our_clock_s"], facts["window_s"]) == (age_s, 8 * 3600)
    assert (facts["length"], facts["unit"]) == (digits, "s")


def test_an_unreadable_timestamp_is_told_apart() -> None:
    reason, facts = refused(signed(encrypted(BODY), timestamp="soon"))

    assert (reason, facts["is_present"], facts["is_number"]) == ("timestamp", True, False)


def test_a_wrong_signature_tells_form_length_and_what_was_tried() -> None:
    reason, facts = refused(signed(encrypted(BODY), key="another"), encrypt_key=[KEY, "older"])

    assert reason == "signature"
    assert (facts["scheme"], facts["expected_form"], facts["form"]) == ("platform", "hex", "hex")
    assert (facts["length"], facts["tried"], facts["matched"]) == (64, 2, -1)
    assert facts["nonce_length"] == len("nonce-1")
    assert facts["signed_bytes"][0] == 10 + len("nonce-1") + len(KEY) + len(encrypted(BODY))
    assert facts["would_match"] == ""


def test_the_fingerprint_of_the_signed_text_is_no_part_of_the_signature() -> None:
    request = signed(encrypted(BODY))

    _, facts = refused(with_header(request, "signature", "0" * 64))

    (shown,) = facts["signed_text_fingerprints"]
    assert shown not in request.headers["x-lark-signature"]


def test_a_body_that_was_changed_on_the_way_shows_another_fingerprint() -> None:
    request = signed(encrypted(BODY))
    changed = RawRequest(request.headers, request.body.replace(b": ", b":"))

    reason, facts = refused(changed)

    assert (reason, facts["matched"]) == ("signature", -1)
    prints = [
        next(s.facts["fingerprint"] for s in explain_all(each) if s.name == "json")
        for each in (request, changed)
    ]
    assert prints[0] != prints[1]


def explain_all(request: RawRequest, **changes: Any) -> list[Any]:
    settings = FeishuSettings.model_validate({**OPTIONS, **changes})
    return list(explain(settings, request, now=NOW))


def test_the_guides_signature_is_recognised() -> None:
    request = signed(encrypted(BODY))
    sign = guide_signature(request.headers["x-lark-request-timestamp"], KEY)

    _, facts = refused(with_header(request, "signature", sign))

    assert (facts["form"], facts["would_match"]) == ("base64", "signature_scheme guide")


def test_a_verification_token_in_the_keys_place_is_recognised() -> None:
    _, facts = refused(signed(encrypted(BODY), key=TOKEN))

    assert facts["would_match"] == "verification token as key"


def test_white_space_around_the_key_is_recognised() -> None:
    _, facts = refused(signed(encrypted(BODY)), encrypt_key=[f" {KEY}\n"])

    assert facts["would_match"] == "key without white space"


def test_a_missing_signature_is_told_apart() -> None:
    reason, facts = refused(RawRequest({}, encrypted(BODY)))

    assert (reason, facts["is_present"], facts["form"]) == ("signature", False, "absent")


def test_of_an_unsigned_call_the_log_tells_what_the_answer_must_not() -> None:
    """Strangers get one answer for every fault of a ciphertext; the operator sees which it was."""
    reason, facts = refused(RawRequest({}, encrypted(BODY, key="another")), "decrypt")

    assert (reason, facts["opened_by"]) == ("signature", -1)


def test_a_plain_body_in_place_of_an_encrypted_one_is_told_apart() -> None:
    reason, facts = refused(signed(BODY))

    assert (reason, facts) == ("not_encrypted", {"given": "NoneType"})


@pytest.mark.parametrize(
    ("ciphertext", "is_base64", "whole_blocks"),
    [
        (base64.b64encode(b"x" * 32).decode(), True, True),
        (base64.b64encode(b"x" * 33).decode(), True, False),
        ("not base64!", False, False),
    ],
)
def test_what_can_not_be_decrypted_tells_what_it_is(
    ciphertext: str, is_base64: bool, whole_blocks: bool
) -> None:
    reason, facts = refused(signed(json.dumps({"encrypt": ciphertext}).encode()))

    assert reason == "decrypt"
    assert (facts["is_base64"], facts["whole_blocks"]) == (is_base64, whole_blocks)
    assert (facts["length"], facts["tried"], facts["opened_by"]) == (len(ciphertext), 1, -1)


@pytest.mark.parametrize("body", [b"{", encrypted(b"[]")])
def test_no_json_outside_or_inside_is_told_apart(body: bytes) -> None:
    reason, facts = refused(signed(body))

    assert (reason, facts["bytes"]) == ("json", len(body) if body == b"{" else 2)


@pytest.mark.parametrize(
    ("token", "given", "length"), [("wrong-token", "str", 11), (None, "NoneType", 0)]
)
def test_a_wrong_token_tells_its_length_alone(token: Any, given: str, length: int) -> None:
    envelope = message()
    envelope["header"]["token"] = token

    reason, facts = refused(signed(encrypted(json.dumps(envelope).encode())))

    expected = {"given": given, "length": length, "tried": 1, "matched": -1}
    assert (reason, facts) == ("verification_token", expected)


def test_another_apps_event_names_both() -> None:
    reason, facts = refused(signed(encrypted(BODY)), app_id="cli_other")

    assert (reason, facts) == ("app_id", {"given": "cli_a0test", "expected": "cli_other"})


def test_without_a_key_there_is_no_signature_to_explain() -> None:
    envelope = message()
    envelope["header"]["token"] = "wrong"

    reason, facts = refused(RawRequest({}, json.dumps(envelope).encode()), encrypt_key="")

    assert (reason, facts["matched"]) == ("verification_token", -1)
    names = [step.name for step in explain_all(RawRequest({}, BODY), encrypt_key="")]
    assert "signature" not in names
