"""Feishu's webhook calls: who is let in, and what is read from them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
from typing import Any

import pytest

from shared.errors import AuthError, MalformedError, RequestRejectedError
from shared.http_values import RawRequest
from shared.messages import Challenge, Event, Ignored
from shared.platforms.feishu.inbound import FeishuInbound, guide_signature, platform_signature
from shared.platforms.feishu.settings import FeishuSettings
from tests.platforms.feishu import samples
from tests.platforms.feishu.samples import NOW, encrypted, inbound, message, received, signed
from tests.platforms.vectors import cases, raw_request, vector

NOT_ANSWERED = {
    "feishu.request.text_group_no_mention": "not_mentioned",
    "feishu.request.text_group_at_all": "not_mentioned",
    "feishu.request.text_from_bot": "from_bot",
}
BOT = {"key": "@_user_1", "name": "ClawdBot", "mentioned_type": "bot"}


def _bot_of(case: dict[str, Any]) -> FeishuInbound:
    options = {"app_id": "cli_a0test3e9421", "app_secret": "unused", **case["input"]["config"]}
    return FeishuInbound(FeishuSettings.model_validate(options))


@cases("feishu.json", "feishu_signature")
def test_signature_is_the_sdks(vector: dict[str, Any]) -> None:
    given = vector["input"]
    body = base64.b64decode(given["body_b64"])
    made = platform_signature(given["timestamp"], given["nonce"], given["encrypt_key"], body)
    assert made == vector["expect"]["signature"]


@cases("feishu.json", "feishu_webhook")
def test_webhook_is_decided_like_the_sdk(vector: dict[str, Any]) -> None:
    expect, bot = vector["expect"], _bot_of(vector)
    if expect["outcome"] == "reject":
        with pytest.raises(RequestRejectedError) as caught:
            bot.receive(raw_request(vector), now=vector["input"]["now_unix_s"])
        assert caught.value.reason in expect["reason"].split(" or ")
        assert caught.value.status == (400 if caught.value.reason == "json" else 401)
        return
    outcome = bot.receive(raw_request(vector), now=vector["input"]["now_unix_s"])
    if expect["outcome"] == "challenge":
        assert outcome == Challenge({"challenge": expect["challenge"]})
    elif isinstance(outcome, Event):
        assert outcome.message_id == expect["message_id"]
        assert outcome.event_id == expect["event_id"]
    else:
        assert outcome == Ignored(NOT_ANSWERED.get(vector["id"], outcome.reason))
        assert ".text_" not in vector["id"] or vector["id"] in NOT_ANSWERED


@cases("feishu.json", "feishu_message")
def test_text_reads_like_the_sdk_reads_it(vector: dict[str, Any]) -> None:
    expect, envelope = vector["expect"], vector["input"]["event"]
    bot = inbound(app_id="cli_a0test3e9421", verification_token=envelope["header"]["token"])
    outcome = bot.receive(signed(encrypted(json.dumps(envelope).encode())), now=NOW)
    if not isinstance(outcome, Event):
        assert (
            expect["message_type"] != "text"
            or expect["sender_is_bot"]
            or not (expect["mentioned_bot"] or expect["chat_type"] == "p2p")
        )
        return
    assert outcome.text.split() == expect["text_without_bot"].split()
    assert outcome.conversation_id == expect["chat_id"]
    assert outcome.sender_id == expect["sender_open_id"]
    assert outcome.created_ms == expect["create_time_ms"]
    assert outcome.is_group == (expect["chat_type"] == "group")


# Who is let in


@pytest.mark.parametrize("age_s", [-8 * 3600 + 1, -3600, 0, 7 * 3600, 8 * 3600 - 1])
def test_repeats_within_eight_hours_are_let_in(age_s: int) -> None:
    body = encrypted(json.dumps(message()).encode())
    for stamp in (int(NOW) - age_s, (int(NOW) - age_s) * 1000):
        outcome = inbound().receive(signed(body, timestamp=str(stamp)), now=NOW)
        assert isinstance(outcome, Event)


@pytest.mark.parametrize("age_s", [8 * 3600 + 1, -8 * 3600 - 1])
def test_what_is_older_or_younger_is_refused(age_s: int) -> None:
    body = encrypted(json.dumps(message()).encode())
    with pytest.raises(AuthError, match="timestamp"):
        inbound().receive(signed(body, timestamp=str(int(NOW) - age_s)), now=NOW)


@pytest.mark.parametrize("name", ["encrypt_key", "verification_token"])
def test_every_secret_under_rotation_is_accepted(name: str) -> None:
    envelope = message()
    assert isinstance(received(envelope, **{name: ["next", samples.OPTIONS[name]]}), Event)
    with pytest.raises(AuthError):
        received(envelope, **{name: ["next", "after next"]})


@pytest.mark.parametrize("name", ["encrypt_key", "verification_token"])
def test_a_message_with_an_old_secret_is_told_apart(name: str) -> None:
    current = samples.OPTIONS[name]

    assert received(message(), **{name: ["next", current]}).by_old_secret
    assert not received(message(), **{name: [current, "old"]}).by_old_secret


def test_another_apps_event_is_refused() -> None:
    with pytest.raises(AuthError, match="app_id"):
        received(message(), app_id="cli_other")


def test_a_message_without_token_is_let_in_when_only_the_key_is_configured() -> None:
    envelope = message()
    del envelope["header"]["token"]
    assert isinstance(received(envelope, verification_token=""), Event)


def test_an_encrypted_body_without_a_key_to_read_it_is_refused() -> None:
    request = RawRequest({}, encrypted(json.dumps(message()).encode()))
    with pytest.raises(AuthError, match="decrypt"):
        inbound(encrypt_key="").receive(request, now=NOW)


def test_an_empty_encrypt_member_does_not_make_a_body_plain() -> None:
    body = {"encrypt": "", "type": "url_verification", "challenge": "c", "token": "t"}
    with pytest.raises(AuthError):
        inbound(verification_token="").receive(RawRequest({}, json.dumps(body).encode()), now=NOW)


def test_unsigned_ciphertexts_get_one_answer_whatever_is_wrong_with_them() -> None:
    """Else the answers would be a padding oracle for recorded bodies."""
    token = {"type": "url_verification", "challenge": "c", "token": "wrong"}
    good = encrypted(json.dumps(message()).encode())
    raw = base64.b64decode(json.loads(good)["encrypt"])
    wrong_padding = json.dumps({"encrypt": base64.b64encode(raw[:-16]).decode()}).encode()
    bodies = [good, wrong_padding, encrypted(b"not json"), encrypted(json.dumps(token).encode())]
    for body in bodies:
        with pytest.raises(AuthError) as caught:
            inbound().receive(RawRequest({}, body), now=NOW)
        assert caught.value.reason == "signature"


@pytest.mark.parametrize("challenge", ['"quoted" \\ and\nnew line', "汉字", "x" * 2000])
def test_the_challenge_is_echoed_unchanged(challenge: str) -> None:
    check = {"type": "url_verification", "challenge": challenge, "token": "test-verify-token-1"}
    assert received(check) == Challenge({"challenge": challenge})


def test_a_challenge_that_is_no_text_is_ignored() -> None:
    check = {"type": "url_verification", "challenge": 5, "token": "test-verify-token-1"}
    assert received(check) == Ignored("malformed_event")


# The deployment guide's formula


def _guide_signed(body: bytes, key: str, timestamp: str = "1763791199") -> RawRequest:
    digest = hmac.new(key.encode(), f"{timestamp}\n{key}".encode(), hashlib.sha256).digest()
    headers = {
        "x-lark-request-timestamp": timestamp,
        "x-lark-signature": base64.b64encode(digest).decode(),
    }
    return RawRequest(headers, body)


def test_the_guides_formula_is_accepted_where_it_is_chosen() -> None:
    body = encrypted(json.dumps(message()).encode())
    bot = inbound(signature_scheme="guide")
    assert isinstance(bot.receive(_guide_signed(body, samples.KEY), now=NOW), Event)
    with pytest.raises(AuthError, match="timestamp"):
        bot.receive(_guide_signed(body, samples.KEY, "1763700000"), now=NOW)
    with pytest.raises(AuthError, match="not_encrypted"):
        bot.receive(_guide_signed(json.dumps(message()).encode(), samples.KEY), now=NOW)
    with pytest.raises(AuthError, match="signature"):
        inbound().receive(_guide_signed(body, samples.KEY), now=NOW)


def test_the_guides_formula_takes_the_token_where_there_is_no_key() -> None:
    bot = inbound(signature_scheme="guide", encrypt_key="")
    body = json.dumps(message()).encode()
    token = samples.OPTIONS["verification_token"]
    assert isinstance(bot.receive(_guide_signed(body, token), now=NOW), Event)
    with pytest.raises(AuthError, match="signature"):
        bot.receive(RawRequest({}, body), now=NOW)


def test_the_guides_formula_is_the_recorded_one() -> None:
    case = vector("feishu.json", "feishu.reject.seed_algorithm")
    headers = case["input"]["headers"]
    made = guide_signature(
        headers["X-Lark-Request-Timestamp"], case["input"]["config"]["encrypt_key"]
    )
    assert made == headers["X-Lark-Signature"]


# What is read


def test_the_reply_address_names_the_message_and_the_chat() -> None:
    event = received(message())
    assert event.reply_address == {"message_id": "om_1", "chat_id": "oc_1"}
    assert event.reply_secret == ""


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("@_user_1 你好\n第二行", "你好\n第二行"),
        ("请 @_user_1 看 @_user_10", "请 看 @王小明"),
        ("@_user_10你好", "@王小明你好"),
        ("@_all 开会 @_all_employees", "@all 开会 @_all_employees"),
        ("@_user_2 nobody explains", "@_user_2 nobody explains"),
        ("lone \ud800 surrogate", "lone � surrogate"),
    ],
)
def test_mentions_are_written_out_token_by_token(text: str, read: str) -> None:
    colleague = {"key": "@_user_10", "name": "王小明", "mentioned_type": "user"}
    event = received(message(text, chat_type="group", mentions=[BOT, colleague]))
    assert event.text == read


@pytest.mark.parametrize(
    ("mentions", "is_answered"),
    [
        ([BOT], True),
        ([{"key": "@_user_1", "name": "old client"}], True),
        ([{"key": "@_user_1", "name": "a", "mentioned_type": "user"}], False),
        ([{"key": "@_all", "name": "all"}], False),
        ([], False),
        ("wrong type", False),
        ([None, 3], False),
    ],
)
def test_in_groups_only_a_mentioned_bot_answers(mentions: Any, is_answered: bool) -> None:
    outcome = received(message("hi", chat_type="group", mentions=mentions))
    assert isinstance(outcome, Event) is is_answered
    assert is_answered or outcome == Ignored("not_mentioned")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"message_type": "image", "content": '{"image_key":"k"}'}, "unsupported_message"),
        ({"message_type": "brand_new"}, "unsupported_message"),
        ({"content": '{"text":"  "}'}, "empty_text"),
        ({"content": "not json"}, "malformed_event"),
        ({"content": '{"text":5}'}, "malformed_event"),
        ({"content": "[" * 100_000}, "malformed_event"),
        ({"message_id": ""}, "malformed_event"),
        ({"message_id": "x" * 257}, "malformed_event"),
        ({"message_id": ".."}, "malformed_event"),
        ({"message_id": "a\u0000b"}, "malformed_event"),
        ({"chat_id": None}, "malformed_event"),
    ],
)
def test_what_can_not_be_answered_is_ignored(changes: dict[str, Any], reason: str) -> None:
    assert received(message(**changes)) == Ignored(reason)


@pytest.mark.parametrize("stamp", ["abc", "-5", "9" * 30, None, 1.5, True, ""])
def test_an_absurd_time_is_no_time(stamp: Any) -> None:
    assert received(message(create_time=stamp)).created_ms == 0


def test_a_missing_event_id_is_replaced_by_the_message_id() -> None:
    envelope = message()
    del envelope["header"]["event_id"]
    assert received(envelope).event_id == "om_1"


def test_the_guides_spelling_is_understood_and_noted_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    envelope = message()
    envelope["header"]["event_type"] = "im.message.received_v1"
    request, bot = signed(encrypted(json.dumps(envelope).encode())), inbound()
    with caplog.at_level(logging.WARNING):
        assert isinstance(bot.receive(request, now=NOW), Event)
        assert isinstance(bot.receive(request, now=NOW), Event)
    assert [record.getMessage() for record in caplog.records] == ["event.guide_spelling"]


def test_a_message_in_the_old_envelope_is_read() -> None:
    new = message()
    event = {**new["event"], "type": "im.message.receive_v1", "app_id": "cli_a0test"}
    old = {"uuid": "u-1", "token": "test-verify-token-1", "type": "event_callback", "event": event}
    assert received(old).event_id == "u-1"
    with pytest.raises(AuthError, match="app_id"):
        received({**old, "event": {**event, "app_id": "cli_other"}})


def test_a_signed_body_that_is_no_json_is_malformed() -> None:
    with pytest.raises(MalformedError, match="json"):
        inbound().receive(signed(b"{"), now=NOW)
