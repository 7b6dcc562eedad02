"""What each answer of Feishu's API means for us. The table in README.md is this one, in words."""

from __future__ import annotations

from typing import Any

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
from shared.platforms.text import object_in, vendor_detail, wait_s_in

#: https://open.feishu.cn/document/ukTMukTMukTM/ugjM14COyUjL4ITN
RATE_LIMITED = frozenset({99991400, 230020, 11232, 11233, 11247, 1000004, 1000005})
RETRY = frozenset({2200, 230049, 18121})
REFRESH_TOKEN = frozenset({99991663, 99991661, 99991665, 99991671, 99991664})
#: Permanent ones that are documented: the target, the content, the app, a reply.
PERMANENT = frozenset(
    {230002, 230013, 230029, 230053, 230035, 230018, 232009, 230011, 230110, 230111, 230050}
    | {230034, 230038, 230054, 230075, 230001, 230025, 230022, 230028, 230099, 230055, 230017}
    | {230006, 230027, 99991672, 99991401, 99991403, 230019, 230071, 230072}
)
#: app_id or app_secret is wrong. 10014 "app secret invalid" is what the token call really answers.
SECRET_REFUSED = frozenset({10014, 10015, 99991543})
CODES = frozenset(
    f"feishu:{code}"
    for known in (
        RATE_LIMITED,
        RETRY,
        REFRESH_TOKEN,
        SECRET_REFUSED,
        PERMANENT,
        ("token_unreadable",),
    )
    for code in known
)

MAX_CODE = 10**12
RATE_LIMIT_WAIT_S = 1.0  #: 5 messages a second for one person or group
_WAIT_HEADERS = ("x-ogw-ratelimit-reset", "retry-after")
_GATEWAY = frozenset({502, 504})


def reply_error_in(response: HttpResponse) -> TaskError | None:
    """The error that the answer to a reply means; None when the platform took it.

    The platform's words are left out: they may repeat the message.
    """
    return _error_in(response, with_words=False)


def _error_in(response: HttpResponse, *, with_words: bool) -> TaskError | None:
    answer = response.json_object()
    code = answer.get("code")
    if not isinstance(code, int) or isinstance(code, bool) or abs(code) > MAX_CODE:
        return _by_status(response)
    if code == 0 and response.status == 200:
        return None
    words = answer.get("msg") if with_words else ""
    return _by_code(code, response, _detail(words, answer, response))


def read_error_in(response: HttpResponse) -> TaskError | None:
    """The error that the answer to a mere question means. Asking twice does no harm."""
    error = _error_in(response, with_words=True)
    if isinstance(error, OutcomeUnknownError):
        return TransientError(error.code, error.detail)
    return error


def token_error_in(response: HttpResponse) -> TaskError | None:
    """The error that the answer to a token request means."""
    error = read_error_in(response)
    if isinstance(error, TokenRejectedError):
        return SecretRefusedError(error.code, error.detail)
    return error


def _by_code(code: int, response: HttpResponse, detail: str) -> TaskError:
    name = f"feishu:{code}"
    if code in RATE_LIMITED or response.status == 429:
        return _rate_limited(name, response, detail)
    if code in REFRESH_TOKEN:
        return TokenRejectedError(name, detail)
    if response.status == 504:
        return OutcomeUnknownError(name, detail)
    if code in SECRET_REFUSED:
        return SecretRefusedError(name, detail)
    if code in RETRY:
        return TransientError(name, detail)
    if code == 0 or response.status >= 500:
        return _by_status(response)
    return PermanentError(name, detail)


def _by_status(response: HttpResponse) -> TaskError:
    """For answers without a code: those of a gateway, not of the platform's application."""
    status = response.status
    name, detail = f"feishu:http_{status}", f"HTTP {status} without a usable code"
    if status == 429:
        return _rate_limited(name, response, detail)
    if status in _GATEWAY or 200 <= status < 300:
        return OutcomeUnknownError(name, detail)
    if status >= 500 or status == 408:
        return TransientError(name, detail)
    return PermanentError(name, detail)


def _rate_limited(name: str, response: HttpResponse, detail: str) -> RateLimitedError:
    wait_s = wait_s_in(response.headers, *_WAIT_HEADERS, default_s=RATE_LIMIT_WAIT_S)
    return RateLimitedError(name, detail, retry_after_s=wait_s)


def _detail(words: Any, answer: dict[str, Any], response: HttpResponse) -> str:
    """The platform's words, and the log id that its support asks for."""
    log_id = response.headers.get("x-tt-logid") or object_in(answer.get("error")).get("log_id")
    told = vendor_detail(words, f"(log id {log_id})" if log_id else "")
    return told or f"HTTP {response.status}"
