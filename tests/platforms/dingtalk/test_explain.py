"""Why DingTalk's call was refused, as an operator reads it at LOG_LEVEL=DEBUG."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.errors import RequestRejectedError
from shared.http_values import RawRequest
from shared.platforms.dingtalk.explain import explain
from shared.platforms.dingtalk.settings import DingTalkSettings
from tests.platforms.conformance import assert_nothing_is_told
from tests.platforms.dingtalk.samples import (
    NOW,
    OPTIONS,
    SECRET,
    digest,
    inbound,
    message,
    signed,
)

STAMP = "1763791199923"
BODY = json.dumps(message()).encode()


def refused(request: RawRequest, **changes: Any) -> tuple[str, dict[str, Any]]:
    """The reason, and the facts of the check that it stands for."""
    with pytest.raises(RequestRejectedError) as caught:
        inbound(**changes).receive(request, now=NOW)
    settings = DingTalkSettings.model_validate({**OPTIONS, **changes})
    steps = list(explain(settings, request, now=NOW))
    reason = caught.value.reason
    (step,) = [step for step in steps if step.name == reason and not step.passed]
    assert_nothing_is_told(steps, SECRET, request.headers.get("sign", ""))
    return reason, dict(step.facts)


def headers(sign: str, timestamp: str = STAMP) -> RawRequest:
    return RawRequest({"timestamp": timestamp, "sign": sign}, BODY)


def test_a_late_timestamp_tells_by_how_much() -> None:
    reason, facts = refused(signed(BODY, timestamp=str(int((NOW - 4000) * 1000))))

    assert reason == "timestamp"
    assert facts["behind_our_clock_s"] == pytest.approx(4000, abs=0.01)
    assert (facts["window_s"], facts["unit"], facts["is_number"]) == (3600, "ms", True)
    assert "would_pass_as" not in facts


def test_a_timestamp_of_the_future_is_behind_by_less_than_nothing() -> None:
    _, facts = refused(signed(BODY, timestamp=str(int((NOW + 4000) * 1000))))

    assert facts["behind_our_clock_s"] == pytest.approx(-4000, abs=0.01)


def test_seconds_where_milliseconds_belong_are_recognised() -> None:
    reason, facts = refused(signed(BODY, timestamp=str(int(NOW))))

    assert (reason, facts["would_pass_as"]) == ("timestamp", "s")


@pytest.mark.parametrize(("stamp", "is_present"), [("", False), ("yesterday", True)])
def test_no_timestamp_and_an_unreadable_one_are_told_apart(stamp: str, is_present: bool) -> None:
    reason, facts = refused(signed(BODY, timestamp=stamp))

    assert (reason, facts["is_present"], facts["is_number"]) == ("timestamp", is_present, False)
    assert facts["length"] == len(stamp)


def test_a_wrong_signature_tells_form_length_and_what_was_tried() -> None:
    reason, facts = refused(signed(BODY, "another secret"), app_secret=[SECRET, "older"])

    assert reason == "signature"
    assert (facts["scheme"], facts["expected_form"], facts["form"]) == (
        "platform",
        "base64",
        "base64",
    )
    assert (facts["length"], facts["tried"], facts["matched"]) == (44, 2, -1)
    assert facts["signed_bytes"] == [len(STAMP) + 1 + len(SECRET), len(STAMP) + 1 + len("older")]
    assert facts["would_match"] == ""


def test_the_signed_text_can_be_compared_in_a_shell() -> None:
    """printf '%s\\n%s' 1763791199923 test-app-secret-1 | sha512sum | cut -c-8"""
    _, facts = refused(headers("wrong"))

    assert facts["signed_text_fingerprints"] == ["ecef750e"]


@pytest.mark.parametrize(
    ("sign", "app_secret", "form", "way"),
    [
        (digest(STAMP, SECRET).hex(), SECRET, "hex", "signature_scheme guide"),
        ("PFSTc", SECRET, "other", ""),
        ("", SECRET, "absent", ""),
    ],
)
def test_a_signature_made_another_way_is_recognised(
    sign: str, app_secret: str, form: str, way: str
) -> None:
    reason, facts = refused(headers(sign), app_secret=app_secret)

    assert (reason, facts["form"], facts["would_match"]) == ("signature", form, way)
    assert facts["is_present"] is bool(sign)


def test_a_percent_encoded_signature_is_recognised() -> None:
    sign = signed(BODY).headers["sign"].replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")

    _, facts = refused(headers(sign))

    assert (facts["form"], facts["would_match"]) == ("percent-encoded", "percent-decoded")


def test_white_space_around_the_secret_is_recognised() -> None:
    _, facts = refused(signed(BODY), app_secret=[f"{SECRET}\n"])

    assert facts["would_match"] == "secret without white space"


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b'{"msgtype":"text"}'])
def test_an_unreadable_body_tells_its_size_and_whether_it_is_text(body: bytes) -> None:
    request = signed(body if b"msgtype" not in body else json.dumps(message(msgId="")).encode())

    reason, facts = refused(request)

    assert (reason, facts["has_msg_id"]) == ("json", False)
    assert (facts["bytes"], facts["is_utf8"]) == (len(request.body), body != b"\xff")


@pytest.mark.parametrize(
    ("given", "shown"), [("dingother", "dingother"), (None, "(NoneType)"), ("x" * 300, "x" * 64)]
)
def test_another_robots_message_names_both(given: Any, shown: str) -> None:
    reason, facts = refused(signed(json.dumps(message(robotCode=given)).encode()))

    assert (reason, facts) == ("robot_code", {"given": shown, "expected": "dingtest1"})


def test_another_companys_message_names_both() -> None:
    reason, facts = refused(signed(BODY), corp_ids=["dingcorp2", "dingcorp3"])

    expected = {"given": "dingcorp1", "expected": ["dingcorp2", "dingcorp3"]}
    assert (reason, facts) == ("corp_id", expected)
