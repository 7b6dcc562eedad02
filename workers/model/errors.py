"""What a model endpoint's refusals mean: pure functions from status, headers and body to an error.

The rules are those of the openai SDK; Qianfan's come under HTTP 200. Texts of the endpoint are
never quoted: they may repeat the person's words.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from shared.errors import (
    FailedForNowError,
    KeyRefusedError,
    PermanentError,
    RateLimitedError,
    TaskError,
    TransientError,
)
from shared.http_values import HttpResponse

MAX_WAIT_S = 120.0  #: a message whose endpoint wants us to wait longer is given up

#: Qianfan's numbers: 18 QPS, 336501 requests a minute, 336502 tokens a minute.
RATE_CODES = frozenset(
    {
        "18",
        "336501",
        "336502",
        "rate_limit_exceeded",
        "rpm_rate_limit_exceeded",
        "tpm_rate_limit_exceeded",
    }
)
#: The endpoint's filter held the message or the answer. Azure (with HTTP 400), OpenAI, DashScope:
#: https://help.aliyun.com/zh/model-studio/error-code, Ark (without what follows a dot):
#: https://www.volcengine.com/docs/82379/1299023
CONTENT_CODES = frozenset(
    {
        "content_filter",
        "content_policy_violation",
        "data_inspection_failed",
        "DataInspectionFailed",
        "InputTextRiskDetection",
        "InputTextSensitiveContentDetected",
        "OutputTextRiskDetection",
        "OutputTextSensitiveContentDetected",
        "SensitiveContentDetected",
    }
)
PERMANENT_CODES = frozenset(
    {
        "context_length_exceeded",
        "insufficient_quota",
        "invalid_request_error",
        "model_not_found",
    }
)

#: Codes that say more than the status they come with.
SPEAKING_CODES = frozenset({"context_length_exceeded", "insufficient_quota"})

KEY_CODES = frozenset({"401", "403", "invalid_api_key"})

#: It may be any model of the settings: none is named but by its members.
_ADVICE = {
    400: "it refused the request: check the model's name and limits",
    401: "it refused the key: check the model's ak_id and ak_secret",
    402: "the account has no money left",
    403: "the key may not use this model: check the model's ak_id and name",
    404: "it knows no such address or model: check the model's endpoint and name",
    422: "it refused the request: check the model's name and limits",
}

_ADVICE_CODES = frozenset(str(status) for status in _ADVICE)


def http_error(response: HttpResponse, *, now: float) -> TaskError:
    """The error of an answer whose status is not 2xx. `now` is Unix time, for dates."""
    status, code = response.status, error_code(response.json_object())
    name = f"model:{status}"
    if code in SPEAKING_CODES or is_content_code(code):
        return _permanent(code)
    wait_s = server_delay_s(response.headers, now=now) or 0.0
    if not is_retryable(status, response.headers):
        if _is_failure(status):
            detail = f"model endpoint: it fails, and wants no other try{_told(code)}"
            return FailedForNowError(name, detail, retry_after_s=wait_s)
        advice = _ADVICE.get(status, "it refused the request: check the model's endpoint")
        kind = KeyRefusedError if status in (401, 403) else PermanentError
        return kind(name, f"model endpoint: {advice}{_told(code)}")
    if wait_s > MAX_WAIT_S:
        detail = f"model endpoint: it asks to wait {wait_s:.0f} s{_told(code)}"
        return FailedForNowError(name, detail, retry_after_s=wait_s)
    failure = RateLimitedError if status == 429 else TransientError
    return failure(name, f"model endpoint answered {status}{_told(code)}", retry_after_s=wait_s)


def body_error(body: Mapping[str, Any]) -> TaskError | None:
    """The error that a JSON body or a stream's event tells under HTTP 200; None: it tells none."""
    code = error_code(body)
    if not code:
        return None
    if code in RATE_CODES or code == "429":
        return RateLimitedError(f"model:{code}", "model endpoint: it asks for fewer requests")
    if code in KEY_CODES:
        return KeyRefusedError(f"model:{code}", "model endpoint: it refused the key")
    if code in PERMANENT_CODES or is_content_code(code) or code in _ADVICE_CODES:
        return _permanent(code)
    return TransientError(f"model:{code}", "model endpoint: an error instead of an answer")


def error_code(body: Mapping[str, Any]) -> str:
    """The code of an error in the body, fit for a log line; empty when it holds no error."""
    error = body.get("error")
    if isinstance(error, dict):
        return _clean(error.get("code")) or _clean(error.get("type")) or "error"
    if error:
        return "error"
    if body.get("choices"):
        return ""
    return _clean(body.get("error_code")) or _clean(body.get("code"))


def is_content_code(code: str) -> bool:
    """Whether it says that a filter held the content."""
    return code.partition(".")[0] in CONTENT_CODES


def is_retryable(status: int, headers: Mapping[str, str]) -> bool:
    """Whether the same request may succeed later. `x-should-retry` beats the status."""
    told = headers.get("x-should-retry", "")
    if told in ("true", "false"):
        return told == "true"
    return _is_failure(status)


def server_delay_s(headers: Mapping[str, str], *, now: float) -> float | None:
    """The wait that the endpoint asks for; None: it asks for none."""
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    after = headers.get("retry-after", "")
    seconds = _number(after)
    if seconds is not None or not after:
        return seconds
    try:
        return max(0.0, parsedate_to_datetime(after).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _is_failure(status: int) -> bool:
    """Whether it tells of the endpoint, not of the request."""
    return status in (408, 409, 429) or status >= 500


def _permanent(code: str) -> PermanentError:
    if code == "insufficient_quota":
        return PermanentError(f"model:{code}", "model endpoint: the account has no quota left")
    if is_content_code(code):
        return PermanentError("model:content_filter", f"its filter held the content{_told(code)}")
    return PermanentError(f"model:{code}", "model endpoint: it refused the request for good")


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def short_word(value: str | int) -> str:
    """A vendor's word, fit for a log line."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", str(value)[:64])


def _clean(code: Any) -> str:
    """A vendor's code as a short word; empty for none, and for the codes that mean success."""
    word = short_word(code) if isinstance(code, (str, int)) else ""
    return "" if word.lower() in ("0", "200", "ok", "success", "true", "false") else word


def _told(code: str) -> str:
    return f" (code {code})" if code else ""
