"""What each answer of DingTalk means for us. The table in README.md is this one, in words.

Webhooks answer HTTP 200 with `errcode`; the API answers HTTP 4xx/5xx with a string `code`, and
HTTP 403 both for "too fast" and for "not permitted", so only the code tells. What it says about a
send besides is left out: it may repeat the message.
"""

from __future__ import annotations

import re
from typing import Any

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
from shared.platforms.text import string_in, vendor_detail, wait_s_in

#: Code -> least wait in seconds. https://open.dingtalk.com/document/orgapp/custom-robot-access
RATE_LIMITED = {
    "send.too.fast": 1.0,
    "send.byToken.tooFast": 1.0,
    "90018": 1.0,
    "90002": 1.0,
    "130101": 60.0,  # 20 messages a minute, then up to ten minutes of silence
    "410100": 60.0,
}
#: Families of codes, by their beginning: calls per second, calls per minute.
RATE_LIMITED_PREFIXES = (
    ("Forbidden.AccessDenied.Qps", 1.0),
    ("Forbidden.AccessDenied.Qpm", 60.0),
)
RETRY = frozenset({"system.error", "-1"})
REFRESH_TOKEN = frozenset({"InvalidAuthentication", "40014", "42001"})
ROUTE_EXPIRED = frozenset({"session.expired"})
#: https://open.dingtalk.com/document/orgapp/obtain-the-access_token-of-an-internal-app (HTTP 400)
SECRET_REFUSED = frozenset({"invalidClientIdOrSecret"})

#: Permanent ones that are documented.
PERMANENT = frozenset(
    {"310000", "400101", "300001", "300005", "400102", "400105", "400106", "400013", "40035"}
    | {"43004", "430101", "430102", "430103", "430104", "90020"}
    | {"Forbidden.AccessDenied.AccessTokenPermissionDenied"}
)
#: What we make of answers without a code.
_OURS = ("punished", "flow_controlled", "invalid_staff_id", "webhook_host", "token_unreadable")
CODES = frozenset(
    f"dingtalk:{code}"
    for known in (RATE_LIMITED, RETRY, REFRESH_TOKEN, ROUTE_EXPIRED, SECRET_REFUSED, PERMANENT)
    for code in known
) | frozenset(f"dingtalk:{code}" for code in _OURS)

PUNISHED_WAIT_S = 300.0  #: 10 000 calls in 20 s from one address: five minutes of refusal
RATE_LIMIT_WAIT_S = 1.0
FLOW_CONTROL_WAIT_S = 10.0  #: one person throttled; the documented limit counts by the minute
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,80}")
_EXPIRED_WORDS = re.compile(r"session.*(?:expire|过期|失效)", re.IGNORECASE)


def session_error_in(response: HttpResponse) -> TaskError | None:
    """The error that a session webhook's answer means; None when it took the message."""
    answer = response.json_object()
    if response.status == 200 and _code(answer) == "0":
        return None
    error = _error(answer, response, vendor_detail("", _reference(answer)))
    if isinstance(error, TokenRejectedError) or _is_expired(error, answer, response):
        # The webhook carries its own token; there is none of ours to fetch again.
        return RouteExpiredError(error.code, error.detail)
    return error


def robot_error_in(response: HttpResponse) -> TaskError | None:
    """The error that the robot API's answer means; None when it took the message."""
    answer = response.json_object()
    if response.status == 200 and string_in(answer.get("processQueryKey")):
        return _about_person(answer)
    return _error(answer, response, vendor_detail("", _reference(answer)))


def token_error_in(response: HttpResponse) -> TaskError | None:
    """The error that the answer to a token request means. Asking twice does no harm."""
    answer = response.json_object()
    if response.status == 200 and answer.get("accessToken"):
        return None
    error = _error(answer, response, vendor_detail(_words(answer), _reference(answer)))
    if isinstance(error, OutcomeUnknownError):
        return TransientError(error.code, error.detail)
    if isinstance(error, TokenRejectedError):
        return SecretRefusedError(error.code, error.detail)  # or it is app_key that is wrong
    if isinstance(error, RouteExpiredError):
        return PermanentError(error.code, error.detail)
    return error


def _about_person(answer: dict[str, Any]) -> TaskError | None:
    """HTTP 200 and still not sent: we address one person, so a list that isn't empty is theirs."""
    if answer.get("flowControlledStaffIdList"):
        return RateLimitedError(
            "dingtalk:flow_controlled",
            "the person gets too many messages at the moment",
            retry_after_s=FLOW_CONTROL_WAIT_S,
        )
    if answer.get("invalidStaffIdList"):
        return PermanentError("dingtalk:invalid_staff_id", "the staff id is not known")
    return None


def _error(answer: dict[str, Any], response: HttpResponse, detail: str) -> TaskError:
    if _is_punished(answer, response):
        return RateLimitedError(
            "dingtalk:punished",
            "this address sent too many calls and is refused for five minutes",
            retry_after_s=PUNISHED_WAIT_S,
        )
    code = _code(answer)
    wait_s = _wait_s(code, response)
    name = f"dingtalk:{code}" if code else f"dingtalk:http_{response.status}"
    detail = detail or f"HTTP {response.status}"
    if wait_s:
        return RateLimitedError(name, detail, retry_after_s=wait_s)
    if response.status == 504:
        return OutcomeUnknownError(name, detail)  # the gateway gave up waiting, after 3 s
    return _by_code(code, name, detail) or _by_status(code, response.status, name, detail)


def _by_code(code: str, name: str, detail: str) -> TaskError | None:
    if code in REFRESH_TOKEN:
        return TokenRejectedError(name, detail)
    if code in ROUTE_EXPIRED:
        return RouteExpiredError(name, detail)
    if code in SECRET_REFUSED:
        return SecretRefusedError(name, detail)
    return TransientError(name, detail) if code in RETRY else None


def _by_status(code: str, status: int, name: str, detail: str) -> TaskError:
    """The fate of a code we don't know, or of an answer without one (a gateway's)."""
    if status == 502 or (200 <= status < 300 and code in ("", "0")):
        return OutcomeUnknownError(name, detail)
    if status >= 500 or status == 408:
        return TransientError(name, detail)
    if status == 401:
        return TokenRejectedError(name, detail)
    return PermanentError(name, detail)


def _wait_s(code: str, response: HttpResponse) -> float:
    """The wait that a rate limit asks for; 0 for anything else."""
    known = RATE_LIMITED.get(code, 0.0)
    for prefix, wait_s in RATE_LIMITED_PREFIXES:
        known = wait_s if code.startswith(prefix) else known
    if not known and response.status != 429:
        return 0.0
    return wait_s_in(response.headers, "retry-after", default_s=known or RATE_LIMIT_WAIT_S)


def _is_punished(answer: dict[str, Any], response: HttpResponse) -> bool:
    """The protection in front of the API answers JSON of its own, or an HTML page."""
    if answer:
        return answer.get("status") == 1111 or answer.get("punish") == "deny"
    return response.status < 500 and response.body.lstrip()[:1] == b"<"


def _is_expired(error: TaskError, answer: dict[str, Any], response: HttpResponse) -> bool:
    """The answer of an expired webhook isn't documented: its words and a 404 or 410 count, too."""
    if not isinstance(error, PermanentError):
        return False
    return response.status in (404, 410) or _EXPIRED_WORDS.search(_words(answer)) is not None


def _code(answer: dict[str, Any]) -> str:
    value = answer.get("errcode", answer.get("code"))
    if isinstance(value, bool) or not isinstance(value, int | str):
        return ""
    text = str(value)
    return text if _CODE.fullmatch(text) else ""


def _words(answer: dict[str, Any]) -> str:
    return string_in(answer.get("errmsg") or answer.get("message"))


def _reference(answer: dict[str, Any]) -> str:
    request_id = string_in(answer.get("requestid"))
    return f"(request id {request_id})" if request_id else ""
