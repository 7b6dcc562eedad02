"""DingTalk's webhook calls: who is let in, and what is read from them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.errors import AuthError, MalformedError, RequestRejectedError
from shared.http_values import RawRequest
from shared.messages import Event, Ignored
from shared.platforms.dingtalk.inbound import (
    DingTalkInbound,
    guide_signature,
    platform_signature,
)
from shared.platforms.dingtalk.settings import DingTalkSettings
from tests.platforms.dingtalk.samples import (
    NOW,
    SECRET,
    WEBHOOK,
    digest,
    inbound,
    message,
    received,
    signed,
)
from tests.platforms.vectors import cases, raw_request, vector


def _bot_of(case: dict[str, Any]) -> DingTalkInbound:
    """The vectors configure only the secret; the robot's ids are those of their bodies."""
    try:
        body = json.loads(case["input"]["body_text"] or "")
    except ValueError:
        body = {"robotCode": "any", "chatbotCorpId": "any"}
    ids = {"robot_code": body["robotCode"], "corp_ids": [body["chatbotCorpId"]]}
    options = {"app_key": "dingtest1", **case["input"]["config"], **ids}
    return DingTalkInbound(DingTalkSettings.model_validate(options))


@cases("dingtalk.json", "dingtalk_signature")
def test_signature_is_the_peers(vector: dict[str, Any]) -> None:
    given = vector["input"]
    assert platform_signature(given["timestamp"], given["app_secret"]) == vector["expect"]["sign"]


@cases("dingtalk.json", "dingtalk_webhook")
def test_webhook_is_decided_like_the_peers(vector: dict[str, Any]) -> None:
    expect, now = vector["expect"], vector["input"]["now_unix_ms"] / 1000
    if expect["outcome"] == "reject":
        with pytest.raises(RequestRejectedError) as caught:
            _bot_of(vector).receive(raw_request(vector), now=now)
        assert caught.value.reason == expect["reason"]
        assert caught.value.status == (400 if expect["reason"] == "json" else 401)
        return
    outcome = _bot_of(vector).receive(raw_request(vector), now=now)
    if expect["msgtype"] == "text":
        assert isinstance(outcome, Event)
        assert (outcome.message_id, outcome.event_id) == (expect["msg_id"], expect["msg_id"])
    else:
        assert outcome == Ignored("unsupported_message")


@cases("dingtalk.json", "dingtalk_message")
def test_text_reads_like_the_peers_read_it(vector: dict[str, Any]) -> None:
    body, expect = vector["input"]["body"], vector["expect"]
    outcome = received(body, robot_code=body["robotCode"])
    if not isinstance(outcome, Event):
        assert expect["msgtype"] != "text"
        return
    assert outcome.text == expect["text"]
    assert outcome.conversation_id == expect["conversation_id"]
    assert (outcome.sender_id, outcome.sender_name) == (expect["sender_id"], expect["sender_nick"])
    assert outcome.is_group is expect["is_group"]
    assert outcome.reply_secret == expect["session_webhook"]
    assert outcome.reply_address["staff_id"] == (expect["sender_staff_id"] or "")
    assert outcome.reply_address["expires_ms"] == str(expect["session_webhook_expires_ms"])


# Who is let in


def test_every_secret_under_rotation_is_accepted() -> None:
    assert isinstance(received(message(), app_secret=["next", SECRET]), Event)
    with pytest.raises(AuthError, match="signature"):
        received(message(), app_secret=["next", "after next"])


def test_a_message_signed_with_an_old_secret_is_told_apart() -> None:
    assert received(message(), app_secret=["next", SECRET]).by_old_secret
    assert not received(message(), app_secret=[SECRET, "old"]).by_old_secret


@pytest.mark.parametrize("code", ["dingother", None, "", 5])
def test_a_message_for_another_robot_is_refused(code: Any) -> None:
    with pytest.raises(AuthError, match="robot_code"):
        received(message(robotCode=code))


def test_a_body_without_robot_code_is_refused() -> None:
    body = message()
    del body["robotCode"]
    with pytest.raises(AuthError, match="robot_code"):
        received(body)


def test_only_the_robots_own_company_counts() -> None:
    assert isinstance(received(message(), corp_ids='["dingcorp1"]'), Event)
    with pytest.raises(AuthError, match="corp_id"):
        received(message(), corp_ids="dingcorp2, dingcorp3")
    with pytest.raises(AuthError, match="corp_id"):
        received(message(chatbotCorpId=None), corp_ids=["dingcorp1"])


@pytest.mark.parametrize("message_id", [None, "", 5, "x" * 257, "a\nb"])
def test_what_can_not_be_told_from_a_repeat_is_malformed(message_id: Any) -> None:
    with pytest.raises(MalformedError, match="json"):
        received(message(msgId=message_id))


def test_the_guides_hex_form_is_accepted_where_it_is_chosen() -> None:
    body, stamp = json.dumps(message()).encode(), "1763791199923"
    request = RawRequest({"timestamp": stamp, "sign": digest(stamp, SECRET).hex()}, body)
    assert isinstance(inbound(signature_scheme="guide").receive(request, now=NOW), Event)
    with pytest.raises(AuthError, match="timestamp"):
        inbound(signature_scheme="guide").receive(request, now=NOW + 3601)
    with pytest.raises(AuthError, match="signature"):
        inbound().receive(request, now=NOW)


def test_the_guides_hex_form_is_the_recorded_one() -> None:
    given = vector("dingtalk.json", "dingtalk.reject.seed_hex")["input"]
    made = guide_signature(given["headers"]["timestamp"], given["config"]["app_secret"])
    assert made == given["headers"]["sign"]


# What is read


def test_the_webhook_is_the_secret_part_of_the_address() -> None:
    event = received(message(conversationType="2"))
    assert event.reply_secret == WEBHOOK
    assert event.reply_address == {
        "conversation_id": "cid1==",
        "staff_id": "manager1",
        "is_group": "1",
        "robot_code": "dingtest1",
        "expires_ms": "1763796600123",
    }


def test_text_is_read_from_both_documented_places() -> None:
    old = message()
    del old["text"]
    assert received({**old, "content": " hi "}).text == "hi"
    assert received(message(" a\nb ")).text == "a\nb"


def test_times_may_be_strings() -> None:
    event = received(message(createAt="1763791199823", sessionWebhookExpiredTime="1763796600123"))
    assert event.created_ms == 1763791199823
    assert event.reply_address["expires_ms"] == "1763796600123"


def test_names_are_what_people_wrote() -> None:
    body = message(
        senderNick="👩\u200d👧 Ada", conversationTitle="张\u3000三", conversationType="2"
    )

    outcome = received(body)

    assert isinstance(outcome, Event)
    assert (outcome.sender_name, outcome.conversation_name) == ("👩\u200d👧 Ada", "张\u3000三")


def test_a_private_chat_without_id_is_named_after_its_sender() -> None:
    event = received(message(conversationId=None))
    assert event.conversation_id == "p2p:$:LWCP_v1:$x"
    assert event.reply_address["conversation_id"] == ""


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"msgtype": "picture"}, "unsupported_message"),
        ({"msgtype": None}, "unsupported_message"),
        ({"text": {"content": " \n"}}, "empty_text"),
        ({"text": {"content": 5}}, "malformed_event"),
        ({"text": None}, "malformed_event"),
        ({"conversationId": 7, "conversationType": "2"}, "malformed_event"),
        ({"conversationId": "x" * 257, "senderId": None}, "malformed_event"),
        ({"errorCode": 20001, "msgId": None, "text": None}, "quota_notice"),
        ({"errorCode": "20001"}, "quota_notice"),
    ],
)
def test_what_can_not_be_answered_is_ignored(changes: dict[str, Any], reason: str) -> None:
    assert received(message(**changes)) == Ignored(reason)


@pytest.mark.parametrize("webhook", [None, 5, "x" * 2049])
def test_a_webhook_that_is_none_is_left_out(webhook: Any) -> None:
    assert received(message(sessionWebhook=webhook)).reply_secret == ""


def test_seconds_are_not_taken_for_milliseconds() -> None:
    with pytest.raises(AuthError, match="timestamp"):
        inbound().receive(signed(b"{}", timestamp=str(int(NOW))), now=NOW)
