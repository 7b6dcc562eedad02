"""Replying in DingTalk: which way, the requests, and what every answer means."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.errors import (
    OutcomeUnknownError,
    PermanentError,
    RateLimitedError,
    RouteExpiredError,
    SecretRefusedError,
    TaskError,
    TokenRejectedError,
    TransientError,
)
from shared.http_values import HttpResponse
from shared.messages import Delivered, Part, Route, Token
from shared.platforms.dingtalk.outbound import PART_BYTES, ROBOT, SESSION, DingTalkOutbound
from shared.platforms.dingtalk.settings import DingTalkSettings
from tests.platforms.dingtalk.samples import NOW, OPTIONS, WEBHOOK
from tests.platforms.vectors import assert_same_request, cases, http_response, vector

BASE = "https://api.dingtalk.com"
ADDRESS = {
    "conversation_id": "cid1==",
    "staff_id": "manager1",
    "is_group": "0",
    "robot_code": "dingtest1",
    "expires_ms": str(int((NOW + 5400) * 1000)),
}
CLASSES = {
    "rate_limited": RateLimitedError,
    "retry": TransientError,
    "refresh_token": TokenRejectedError,
    "permanent": PermanentError,
}


def _outbound(**changes: Any) -> DingTalkOutbound:
    return DingTalkOutbound(DingTalkSettings.model_validate({**OPTIONS, **changes}))


def _answer(status: int, body: Any, **headers: str) -> HttpResponse:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HttpResponse(status, {k.replace("_", "-"): v for k, v in headers.items()}, raw)


def _error(route: Route, response: HttpResponse) -> TaskError:
    with pytest.raises(TaskError) as caught:
        _outbound().read_reply(route, response)
    return caught.value


# Routes


def _routes(secret: str = WEBHOOK, now: float = NOW, **changes: str) -> list[str]:
    return [r.name for r in _outbound().routes({**ADDRESS, **changes}, secret, now=now)]


def test_the_webhook_goes_first_while_it_lives() -> None:
    assert _routes() == ["session", "robot"]
    assert _routes(now=NOW + 5400 - 61) == ["session", "robot"]
    assert _routes(now=NOW + 5400 - 59) == ["robot"]
    assert _routes(expires_ms="nonsense") == ["robot"]


def test_an_outsider_is_reached_by_the_webhook_alone() -> None:
    assert _routes(staff_id="") == ["session"]
    assert _routes(staff_id="", now=NOW + 9000) == []
    assert _routes(staff_id="", is_group="1") == ["session", "robot"]
    assert _routes(conversation_id="", is_group="1") == ["session"]


def test_no_route_drops_repeats() -> None:
    assert SESSION.idempotent_s == ROBOT.idempotent_s == 0
    assert (SESSION.needs_token, ROBOT.needs_token) == (False, True)


@pytest.mark.parametrize(
    "webhook",
    [
        "",
        "http://oapi.dingtalk.com/robot/sendBySession",
        "https://oapi.dingtalk.com.evil.example/robot/sendBySession",
        "https://evil-oapi.dingtalk.com/robot/sendBySession",
        "https://oapi.dingtalk.com@evil.example/robot/sendBySession",
        "https://user:pw@oapi.dingtalk.com/robot/sendBySession",
        "https://oapi.dingtalk.com:8443/robot/sendBySession",
        "https://oapi.dingtalk.com:443/robot/sendBySession",
        "https://oapi.dingtalk.com\\@evil.example/robot/sendBySession",
        "https://oapi.dingtalk.com/a\\b/robot/sendBySession",
        "https://oapi.dingtalk.com/a b/robot/sendBySession",
        "https://oapi.dingtalk.com/a\nb/robot/sendBySession",
        "https://oapi.dingtalk.com?session=1",
        "https://oapi.dingtalk.com",
        "https://oapi.dingtalk.com./robot/sendBySession",
        "https://оapi.dingtalk.com/robot/sendBySession",
        "https:/oapi.dingtalk.com/robot/sendBySession",
        "//oapi.dingtalk.com/robot/sendBySession",
        "ftp://oapi.dingtalk.com/robot/sendBySession",
        " https://oapi.dingtalk.com/robot/sendBySession",
        "http://127.0.0.1/robot/sendBySession",
        "https://169.254.169.254/robot/sendBySession",
    ],
)
def test_a_webhook_elsewhere_is_never_posted_to(webhook: str) -> None:
    assert _routes(webhook) == ["robot"]
    with pytest.raises(RouteExpiredError, match="webhook_host"):
        _outbound().reply_request(SESSION, Part("hi", "k", ADDRESS, webhook), "")


def test_a_configured_host_is_allowed_exactly() -> None:
    outbound = _outbound(webhook_hosts=["127.0.0.1:9001", "gateway.example:8443"])

    def is_open(webhook: str) -> bool:
        return SESSION in outbound.routes(ADDRESS, webhook, now=NOW)

    assert is_open("http://127.0.0.1:9001/robot/sendBySession?x=1")
    assert is_open("https://gateway.example:8443/robot/sendBySession")
    assert not is_open("http://gateway.example:8443/robot/sendBySession")
    assert not is_open("http://127.0.0.1:9002/robot/sendBySession")
    assert not is_open(WEBHOOK)


def test_the_hosts_of_the_apis_are_allowed_unless_hosts_are_given() -> None:
    outbound = _outbound(oapi_base="http://localhost:9001")
    assert SESSION in outbound.routes(ADDRESS, "http://localhost:9001/robot/sendBySession", now=NOW)
    assert SESSION in outbound.routes(ADDRESS, WEBHOOK, now=NOW)


# Requests


def test_token_request_is_the_sdks() -> None:
    case = vector("dingtalk_requests.json", "dingtalk.out.token")
    (request,) = _outbound(**case["input"]).token_requests()
    assert_same_request(request, BASE, case["expect"])


def test_a_token_is_asked_for_with_each_listed_secret_in_order() -> None:
    requests = _outbound(app_secret=["new", "old"]).token_requests()
    assert [json.loads(each.body)["appSecret"] for each in requests] == ["new", "old"]


def test_private_message_is_the_sdks() -> None:
    case = vector("dingtalk_requests.json", "dingtalk.out.oto_send")
    given = case["input"]
    address = {**ADDRESS, "staff_id": given["user_ids"][0], "robot_code": given["robot_code"]}
    part = Part(given["msg_param"]["content"], "k", address)
    request = _outbound().reply_request(ROBOT, part, given["access_token"])
    assert_same_request(request, BASE, case["expect"])


def test_group_message_is_the_sdks() -> None:
    case = vector("dingtalk_requests.json", "dingtalk.out.group_send")
    given = case["input"]
    address = {**ADDRESS, "is_group": "1", "conversation_id": given["open_conversation_id"]}
    part = Part(given["msg_param"]["content"], "k", {**address, "robot_code": given["robot_code"]})
    request = _outbound().reply_request(ROBOT, part, given["access_token"])
    assert_same_request(request, BASE, case["expect"])


def test_webhook_message_is_the_sdks_but_mentions_nobody() -> None:
    case = vector("dingtalk_requests.json", "dingtalk.out.session_text")
    given, expect = case["input"], case["expect"]
    webhook = f"https://oapi.dingtalk.com{expect['path']}?session={given['session']}"
    request = _outbound().reply_request(SESSION, Part(given["text"], "k", ADDRESS, webhook), "")
    assert (request.method, request.url) == (expect["method"], webhook)
    assert request.headers["Content-Type"].startswith(expect["headers"]["content-type"])
    sent = json.loads(request.body)
    assert sent.pop("at") == {"atMobiles": [], "atUserIds": [], "isAtAll": False}
    assert sent == {k: v for k, v in expect["json"].items() if k != "at"}


def test_the_bots_own_robot_code_is_used_where_the_address_has_none() -> None:
    part = Part("hi", "k", {**ADDRESS, "robot_code": ""})
    assert json.loads(_outbound().reply_request(ROBOT, part, "t").body)["robotCode"] == "dingtest1"


@pytest.mark.parametrize("word", ["@all", "@ALL ", "@ all", "@所有人", "@everyone", "@全体成员"])
def test_no_mention_of_everybody_survives(word: str) -> None:
    (part,) = _outbound().parts(f"x {word} y")
    assert "@" not in part
    assert part.replace("＠", "@") == f"x {word} y"


@pytest.mark.parametrize("text", ["a@alliance.example", "@property\ndef f(): ...", "@小明 好"])
def test_other_text_stays_as_it_is(text: str) -> None:
    assert _outbound().parts(text) == (text,)


def test_every_part_fits_the_narrowest_route() -> None:
    parts = _outbound().parts('"汉\n' * 20_000)
    for part in parts:
        body = json.loads(_outbound().reply_request(ROBOT, Part(part, "k", ADDRESS), "t").body)
        assert len(body["msgParam"].encode()) <= PART_BYTES + len('{"content":""}') < 15_000


# Answers


@cases("dingtalk.json", "api_error")
def test_answer_is_classified_as_documented(vector: dict[str, Any]) -> None:
    body, wanted = vector["input"]["body"], vector["expect"]["class"]
    route = SESSION if "errcode" in body else ROBOT
    if wanted == "ok":
        assert _outbound().read_reply(route, http_response(vector)) == Delivered("")
        return
    error = _error(route, http_response(vector))
    assert type(error) is CLASSES[wanted]
    assert error.code == f"dingtalk:{body.get('errcode', body.get('code'))}"


@pytest.mark.parametrize(
    ("route", "response", "wait_s"),
    [
        (SESSION, _answer(200, {"errcode": 130101}), 60.0),
        (SESSION, _answer(200, {"errcode": 410100}), 60.0),
        (SESSION, _answer(200, {"errcode": 90018}), 1.0),
        (ROBOT, _answer(403, {"code": "Forbidden.AccessDenied.QpsLimitForApi"}), 1.0),
        (ROBOT, _answer(403, {"code": "Forbidden.AccessDenied.QpmLimitForAppkeyAndApi"}), 60.0),
        (ROBOT, _answer(400, {"code": "send.too.fast"}, retry_after="9"), 9.0),
        (ROBOT, _answer(429, {}), 1.0),
        (ROBOT, _answer(200, {"status": 1111, "wait": 5, "punish": "deny"}), 300.0),
        (SESSION, _answer(200, b"\n<!DOCTYPE html>"), 300.0),
        (ROBOT, _answer(403, b"<html>"), 300.0),
        (ROBOT, _answer(200, {"processQueryKey": "q", "flowControlledStaffIdList": ["m"]}), 10.0),
    ],
)
def test_a_rate_limit_says_how_long_to_wait(
    route: Route, response: HttpResponse, wait_s: float
) -> None:
    error = _error(route, response)
    assert isinstance(error, RateLimitedError)
    assert error.retry_after_s == wait_s


@pytest.mark.parametrize(
    ("route", "status", "body", "kind", "code"),
    [
        (SESSION, 200, {}, OutcomeUnknownError, "dingtalk:http_200"),
        (SESSION, 200, b"ok", OutcomeUnknownError, "dingtalk:http_200"),
        (SESSION, 200, {"errcode": True}, OutcomeUnknownError, "dingtalk:http_200"),
        (ROBOT, 200, {}, OutcomeUnknownError, "dingtalk:http_200"),
        (ROBOT, 502, b"<html>", OutcomeUnknownError, "dingtalk:http_502"),
        (ROBOT, 504, b"", OutcomeUnknownError, "dingtalk:http_504"),
        (ROBOT, 504, {"code": "system.error"}, OutcomeUnknownError, "dingtalk:system.error"),
        (ROBOT, 400, {"code": "system.error"}, TransientError, "dingtalk:system.error"),
        (ROBOT, 503, b"", TransientError, "dingtalk:http_503"),
        (ROBOT, 500, {"code": "new"}, TransientError, "dingtalk:new"),
        (ROBOT, 401, {}, TokenRejectedError, "dingtalk:http_401"),
        (ROBOT, 400, {"code": "new"}, PermanentError, "dingtalk:new"),
        (ROBOT, 400, {"code": "bad code\n"}, PermanentError, "dingtalk:http_400"),
        (ROBOT, 302, b"", PermanentError, "dingtalk:http_302"),
        (
            ROBOT,
            403,
            {"code": "Forbidden.AccessDenied.ApiCountLimitForOrg"},
            PermanentError,
            "dingtalk:Forbidden.AccessDenied.ApiCountLimitForOrg",
        ),
        (
            ROBOT,
            200,
            {"processQueryKey": "q", "invalidStaffIdList": ["manager1"]},
            PermanentError,
            "dingtalk:invalid_staff_id",
        ),
        (SESSION, 200, {"errcode": 400102}, PermanentError, "dingtalk:400102"),
        (SESSION, 200, {"errcode": 40014}, RouteExpiredError, "dingtalk:40014"),
        (SESSION, 400, {"code": "session.expired"}, RouteExpiredError, "dingtalk:session.expired"),
        (
            SESSION,
            200,
            {"errcode": 7, "errmsg": "session 已过期"},
            RouteExpiredError,
            "dingtalk:7",
        ),
        (SESSION, 410, b"", RouteExpiredError, "dingtalk:http_410"),
    ],
)
def test_every_other_answer_has_a_fate(
    route: Route, status: int, body: Any, kind: type[TaskError], code: str
) -> None:
    error = _error(route, _answer(status, body))
    assert type(error) is kind
    assert error.code == code


@pytest.mark.parametrize("route", [SESSION, ROBOT])
def test_what_a_refused_message_is_told_to_hold_is_left_out(route: Route) -> None:
    words = "消息内容不合法：我的密码是小猫"
    webhook, api = {"errcode": 430101, "errmsg": words}, {"code": "new", "message": words}
    body = webhook if route == SESSION else api
    assert _error(route, _answer(400, body)).detail == "HTTP 400"
    assert _error(route, _answer(400, {**body, "requestid": "R1"})).detail == "(request id R1)"


def test_what_is_said_about_a_refused_token_is_kept() -> None:
    answer = _answer(400, {"code": "invalidClientIdOrSecret", "message": "no such app"})
    with pytest.raises(PermanentError, match="no such app"):
        _outbound().read_token(answer)


def test_a_taken_message_is_delivered_with_its_key() -> None:
    taken = {"processQueryKey": "q", "invalidStaffIdList": [], "flowControlledStaffIdList": []}
    assert _outbound().read_reply(ROBOT, _answer(200, taken)) == Delivered("q")


@pytest.mark.parametrize(("expire", "left_s"), [(7200, 6900.0), (200, 60.0)])
def test_a_token_is_used_five_minutes_less_than_it_lives(expire: int, left_s: float) -> None:
    answer = _answer(200, {"accessToken": "a-1", "expireIn": expire})
    assert _outbound().read_token(answer) == Token("a-1", left_s)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"code": "invalidClientIdOrSecret"}, SecretRefusedError),
        (401, {"code": "InvalidAuthentication"}, SecretRefusedError),
        (403, {"code": "Forbidden.AccessDenied.AccessTokenPermissionDenied"}, PermanentError),
        (410, {"code": "session.expired"}, PermanentError),
        (403, {"code": "Forbidden.AccessDenied.QpsLimitForApi"}, RateLimitedError),
        (504, b"", TransientError),
        (500, {"code": "system.error"}, TransientError),
        (200, {}, TransientError),
        (200, {"accessToken": "a b", "expireIn": 7200}, TransientError),
        (200, {"accessToken": "a", "expireIn": "7200"}, TransientError),
    ],
)
def test_a_refused_token_has_a_fate(status: int, body: Any, kind: type[TaskError]) -> None:
    with pytest.raises(TaskError) as caught:
        _outbound().read_token(_answer(status, body))
    assert type(caught.value) is kind
