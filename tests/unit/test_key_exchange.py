"""What the clouds' answers to an exchange mean, and what is asked of them."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from shared.errors import KeyRefusedError, PermanentError, RateLimitedError, TransientError
from shared.http_values import HttpResponse
from workers.keys.baidu import BaiduExchange
from workers.keys.exchange import LIFETIME_S, Exchange, refusal
from workers.keys.pair import KeyPair
from workers.keys.volcengine import VolcengineExchange

PAIR = KeyPair("AK-1", "SK-secret-1")
NOW = 1_763_791_200.0
DAY_S = 86_400.0
BAIDU, VOLCENGINE = BaiduExchange(), VolcengineExchange(["ep-1"])
TIMES = {"createTime": "2025-11-22T06:00:00Z", "expireTime": "2025-11-23T06:00:00Z"}


def answer(body: Any, status: int = 200, **headers: str) -> HttpResponse:
    return HttpResponse(status, headers, json.dumps(body).encode())


def test_baidu_is_asked_for_a_days_token() -> None:
    request = BAIDU.request(PAIR, now=NOW)

    url = urlsplit(request.url)
    assert (request.method, url.netloc) == ("GET", "iam.bj.baidubce.com")
    assert url.path == "/v1/BCE-BEARER/token"
    assert parse_qs(url.query) == {"expireInSeconds": [str(LIFETIME_S)]}
    assert request.headers["x-bce-date"] == "2025-11-22T06:00:00Z"
    assert request.headers["Authorization"].startswith("bce-auth-v1/AK-1/2025-11-22T06:00:00Z/")
    assert "/host;x-bce-date/" in request.headers["Authorization"]


def test_volcengine_is_asked_for_a_key_of_the_endpoints() -> None:
    exchange = VolcengineExchange(["ep-1", "ep-2"], "https://ark.ap-x.example.com")

    request = exchange.request(PAIR, now=NOW)

    url = urlsplit(request.url)
    assert (request.method, url.netloc) == ("POST", "ark.ap-x.example.com")
    assert parse_qs(url.query) == {"Action": ["GetApiKey"], "Version": ["2024-01-01"]}
    assert json.loads(request.body) == {
        "DurationSeconds": LIFETIME_S,
        "ResourceType": "endpoint",
        "ResourceIds": ["ep-1", "ep-2"],
    }
    assert "/20251122/ap-x/ark/request," in request.headers["Authorization"]
    assert "/cn-beijing/" in VOLCENGINE.request(PAIR, now=NOW).headers["Authorization"]


@pytest.mark.parametrize(
    ("exchange", "body"),
    [
        (BAIDU, {"userId": "u", "token": "bce-v3/t", "status": "enable", **TIMES}),
        (VOLCENGINE, {"Result": {"ApiKey": "bce-v3/t", "ExpiredTime": int(NOW + DAY_S)}}),
    ],
    ids=["baidu", "volcengine"],
)
def test_a_key_is_not_used_in_its_last_ten_minutes(exchange: Exchange, body: Any) -> None:
    token = exchange.read(answer(body), now=NOW)

    assert (token.value, token.expires_in_s) == ("bce-v3/t", DAY_S - 600)


@pytest.mark.parametrize("exchange", [BAIDU, VOLCENGINE], ids=["baidu", "volcengine"])
@pytest.mark.parametrize("body", [{}, [], {"token": "", **TIMES}, {"Result": {"ApiKey": 5}}])
def test_an_answer_without_a_key_is_told_apart(exchange: Exchange, body: Any) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        exchange.read(answer(body), now=NOW)


def test_the_clouds_own_codes_are_read() -> None:
    volcengine = {"ResponseMetadata": {"Error": {"Code": "InvalidAccessKey", "CodeN": 100009}}}

    assert BAIDU.error_code(answer({"code": "AccessDenied", "message": "m"})) == "AccessDenied"
    assert VOLCENGINE.error_code(answer(volcengine)) == "InvalidAccessKey"
    for exchange in (BAIDU, VOLCENGINE):
        assert exchange.error_code(answer({"ResponseMetadata": {"RequestId": "r"}})) == ""
        assert exchange.error_code(HttpResponse(502, {}, b"<html>")) == ""


@pytest.mark.parametrize(
    ("status", "code", "kind", "advice"),
    [
        (401, "InvalidAccessKey", KeyRefusedError, "clawdbot keys verify"),
        (403, "AccessDenied", KeyRefusedError, "clawdbot keys verify"),
        (400, "SignatureDoesNotMatch", KeyRefusedError, "clawdbot keys verify"),
        (400, "InvalidAccessKeyId", KeyRefusedError, "clawdbot keys verify"),
        (400, "InvalidHTTPAuthHeader", KeyRefusedError, "clawdbot keys verify"),
        (400, "InvalidCredential", KeyRefusedError, "clawdbot keys verify"),
        (400, "InvalidAuthorization", KeyRefusedError, "clawdbot keys verify"),
        (401, "InvalidTimestamp", TransientError, "clock"),
        (400, "RequestExpired", TransientError, "clock"),
        (429, "", RateLimitedError, "fewer"),
        (503, "", TransientError, "503"),
        (404, "InvalidActionOrVersion", PermanentError, "auth_endpoint"),
        (400, "InvalidParameter", PermanentError, "resource_ids"),
    ],
)
def test_every_refusal_has_its_fate_and_its_advice(
    status: int, code: str, kind: type[Exception], advice: str
) -> None:
    error = refusal("baidu", answer({}, status), code, now=NOW)

    assert type(error) is kind
    assert error.code == f"baidu:{code or status}"
    assert advice in error.detail


def test_a_wait_that_is_asked_for_is_kept() -> None:
    error = refusal("baidu", HttpResponse(429, {"retry-after": "7"}, b""), "", now=NOW)

    assert isinstance(error, TransientError)
    assert error.retry_after_s == 7
