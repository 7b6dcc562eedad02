"""Replying in Feishu: the requests, and what every answer means."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.errors import (
    OutcomeUnknownError,
    PermanentError,
    RateLimitedError,
    SecretRefusedError,
    TaskError,
    TokenRejectedError,
    TransientError,
)
from shared.http_values import HttpResponse
from shared.messages import Delivered, Part, Token
from shared.platforms.feishu.outbound import PART_BYTES, REPLY, FeishuOutbound
from shared.platforms.feishu.settings import FeishuSettings
from tests.platforms.feishu.samples import OPTIONS
from tests.platforms.vectors import assert_same_request, cases, http_response, vector

BASE = "https://open.feishu.cn"
CLASSES = {
    "rate_limited": RateLimitedError,
    "retry": TransientError,
    "refresh_token": TokenRejectedError,
    "permanent": PermanentError,
}


def _outbound(**changes: Any) -> FeishuOutbound:
    return FeishuOutbound(FeishuSettings.model_validate({**OPTIONS, **changes}))


def _answer(status: int, body: Any, **headers: str) -> HttpResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpResponse(status, named, json.dumps(body).encode())


def _error(response: HttpResponse) -> TaskError:
    with pytest.raises(TaskError) as caught:
        _outbound().read_reply(REPLY, response)
    return caught.value


def test_token_request_is_the_sdks() -> None:
    case = vector("feishu_requests.json", "feishu.out.token")
    (request,) = _outbound(**case["input"]).token_requests()
    assert_same_request(request, BASE, case["expect"])


def test_a_token_is_asked_for_with_each_listed_secret_in_order() -> None:
    requests = _outbound(app_secret=["new", "old"]).token_requests()
    assert [json.loads(each.body)["app_secret"] for each in requests] == ["new", "old"]


def test_reply_request_is_the_sdks() -> None:
    case = vector("feishu_requests.json", "feishu.out.reply_text")
    given = case["input"]
    part = Part(given["text"], given["uuid"], {"message_id": given["message_id"]})
    request = _outbound().reply_request(REPLY, part, given["tenant_access_token"])
    assert_same_request(request, BASE, case["expect"])


def test_a_message_id_can_not_leave_its_place_in_the_url() -> None:
    part = Part("hi", "k", {"message_id": "../../x?y=1#z"})
    url = _outbound().reply_request(REPLY, part, "t").url
    assert url == f"{BASE}/open-apis/im/v1/messages/..%2F..%2Fx%3Fy%3D1%23z/reply"


def test_a_long_key_becomes_a_short_one_that_stays_the_same() -> None:
    def uuid(key: str) -> str:
        request = _outbound().reply_request(REPLY, Part("hi", key, {"message_id": "m"}), "t")
        return str(json.loads(request.body)["uuid"])

    assert uuid("k" * 50) == "k" * 50
    assert len(uuid("k" * 51)) <= 50
    assert uuid("k" * 51) == uuid("k" * 51) != uuid("k" * 52)


def test_the_one_route_is_idempotent_for_an_hour() -> None:
    assert _outbound().routes({"message_id": "om_1"}, "", now=0) == (REPLY,)
    assert (REPLY.idempotent_s, REPLY.needs_token) == (3600, True)


@cases("feishu.json", "api_error")
def test_answer_is_classified_as_documented(vector: dict[str, Any]) -> None:
    error = _error(http_response(vector))
    assert type(error) is CLASSES[vector["expect"]["class"]]
    assert error.code == f"feishu:{vector['input']['body']['code']}"


@pytest.mark.parametrize(
    ("response", "wait_s"),
    [
        (_answer(429, {"code": 99991400}, x_ogw_ratelimit_reset="52"), 52.0),
        (_answer(429, "no json", retry_after="7"), 7.0),
        (_answer(400, {"code": 230020}), 1.0),
        (_answer(429, {"code": 1}, x_ogw_ratelimit_reset="soon", retry_after="3"), 3.0),
        (_answer(429, {}, retry_after="999999"), 3600.0),
        (_answer(429, {}, retry_after="0"), 1.0),
    ],
)
def test_a_rate_limit_says_how_long_to_wait(response: HttpResponse, wait_s: float) -> None:
    error = _error(response)
    assert isinstance(error, RateLimitedError)
    assert error.retry_after_s == wait_s


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (200, {"code": 0.5}, OutcomeUnknownError, "feishu:http_200"),
        (200, [], OutcomeUnknownError, "feishu:http_200"),
        (502, "<html>", OutcomeUnknownError, "feishu:http_502"),
        (504, {"code": 2200}, OutcomeUnknownError, "feishu:2200"),
        (503, {}, TransientError, "feishu:http_503"),
        (500, {"code": 0}, TransientError, "feishu:http_500"),
        (408, {}, TransientError, "feishu:http_408"),
        (400, {"code": 12345}, PermanentError, "feishu:12345"),
        (200, {"code": 12345}, PermanentError, "feishu:12345"),
        (302, {}, PermanentError, "feishu:http_302"),
        (404, {}, PermanentError, "feishu:http_404"),
        (400, {"code": 230019}, PermanentError, "feishu:230019"),
        (400, {"code": 230071}, PermanentError, "feishu:230071"),
        (400, {"code": 230072}, PermanentError, "feishu:230072"),
        (400, {"code": 18121}, TransientError, "feishu:18121"),
    ],
)
def test_every_other_answer_has_a_fate(
    status: int, body: Any, kind: type[TaskError], code: str
) -> None:
    error = _error(_answer(status, body))
    assert type(error) is kind
    assert error.code == code


def test_a_taken_reply_is_delivered_with_its_id() -> None:
    taken = _answer(200, {"code": 0, "data": {"message_id": "om_9"}})
    assert _outbound().read_reply(REPLY, taken) == Delivered("om_9")
    assert _outbound().read_reply(REPLY, _answer(200, {"code": 0})) == Delivered("")


def test_the_detail_is_one_short_line_with_the_log_id() -> None:
    answer = _answer(400, {"code": 10014, "msg": "a\nb"}, x_tt_logid="L1")
    with pytest.raises(TaskError) as caught:
        _outbound().read_token(answer)
    assert caught.value.detail == "a b (log id L1)"


def test_what_a_refused_reply_is_told_to_hold_is_left_out() -> None:
    body = {"code": 230001, "msg": "消息内容不合法：我的密码是小猫"}
    assert _error(_answer(400, body, x_tt_logid="L1")).detail == "(log id L1)"
    assert _error(_answer(400, body)).detail == "HTTP 400"


@pytest.mark.parametrize(("expire", "left_s"), [(7200, 6600.0), (1800, 1200.0), (100, 60.0)])
def test_a_token_is_used_ten_minutes_less_than_it_lives(expire: int, left_s: float) -> None:
    answer = _answer(200, {"code": 0, "tenant_access_token": "t-1", "expire": expire})
    assert _outbound().read_token(answer) == Token("t-1", left_s)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, {"code": 10015, "msg": "wrong app secret"}, SecretRefusedError),
        (400, {"code": 10014, "msg": "app secret invalid"}, SecretRefusedError),
        (400, {"code": 99991543}, SecretRefusedError),
        (400, {"code": 99991663}, SecretRefusedError),
        (400, {"code": 99991401}, PermanentError),
        (429, {}, RateLimitedError),
        (504, {}, TransientError),
        (200, [], TransientError),
        (200, {"code": 0}, TransientError),
        (200, {"code": 0, "tenant_access_token": "a\nb", "expire": 7200}, TransientError),
        (200, {"code": 0, "tenant_access_token": "t", "expire": 0}, TransientError),
        (200, {"code": 0, "tenant_access_token": "t", "expire": True}, TransientError),
    ],
)
def test_a_refused_token_has_a_fate(status: int, body: Any, kind: type[TaskError]) -> None:
    with pytest.raises(TaskError) as caught:
        _outbound().read_token(_answer(status, body))
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    "mention",
    [
        '<at user_id="all">',
        "</at>",
        "<AT id=all>",
        "< at\tuser_id='all'>",
        "<\nat>",
        "< / at >",
        "<at/>",
        "<\u200bat user_id=all>",
        "<\x00at user_id=all>",
        '&lt;at user_id="all"&gt;',
        "&#60;at>",
        "&#x3C;at>",
        "<<at>",
    ],
)
def test_no_way_of_writing_a_mention_survives(mention: str) -> None:
    (part,) = _outbound().parts(f"x {mention} y")
    bare = part.replace("&lt;", "<").replace("&#60;", "<").replace("&#x3C;", "<")
    squeezed = "".join(c for c in bare.lower() if c.isprintable() and not c.isspace())
    assert "<at" not in squeezed
    assert "</at" not in squeezed


@pytest.mark.parametrize("text", ["a < b", "<b>bold</b>", "<attribute>", "List<Atom>", "x@y.z"])
def test_other_text_stays_as_it_is(text: str) -> None:
    assert _outbound().parts(text) == (text,)


def test_a_long_text_is_cut_at_paragraphs_and_fits_the_platform() -> None:
    paragraph = "汉字" * 1000
    parts = _outbound().parts("\n\n".join([paragraph] * 20))
    assert len(parts) > 1
    assert "\n\n".join(parts) == "\n\n".join([paragraph] * 20)
    request = _outbound().reply_request(REPLY, Part(parts[0], "k", {"message_id": "m"}), "t")
    assert len(json.loads(request.body)["content"].encode()) <= PART_BYTES + len('{"text":""}')
