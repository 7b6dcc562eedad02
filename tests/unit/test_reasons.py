"""What a person may know of a failure: a class for every error that the stages can end in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.errors import (
    DeadlineError,
    KeyRefusedError,
    NotSentError,
    OutcomeUnknownError,
    PermanentError,
    RateLimitedError,
    RouteExpiredError,
    TaskError,
    TransientError,
)
from shared.http_values import HttpResponse
from workers import notices
from workers.deadline import Deadline
from workers.model.chat import Reading
from workers.model.errors import body_error, http_error
from workers.reasons import Reason, unanswered, undelivered

NOW = 1_763_791_200.0


def answered(status: int, code: str = "", **headers: str) -> TaskError:
    """The error of an HTTP answer of the model's endpoint."""
    body = json.dumps({"error": {"message": "vendor's words", "code": code}}) if code else "<html>"
    return http_error(HttpResponse(status, headers, body.encode()), now=NOW)


def told(body: dict[str, Any]) -> TaskError:
    """The error of a body or an event under HTTP 200."""
    error = body_error(body)
    assert error is not None
    return error


def ended(*events: str) -> TaskError:
    """The error of a stream that ended after these events."""
    reading = Reading()
    for event in events:
        reading.feed(event)
    with pytest.raises(TaskError) as caught:
        reading.answer()
    return caught.value


def choice(text: str | None, finish_reason: str) -> str:
    return json.dumps({"choices": [{"delta": {"content": text}, "finish_reason": finish_reason}]})


UNANSWERED = [
    (answered(400), Reason.SETUP),
    (answered(400, "context_length_exceeded"), Reason.TOO_LONG),
    (answered(413), Reason.TOO_LONG),
    (answered(400, "content_filter"), Reason.REFUSED),
    (answered(400, "DataInspectionFailed"), Reason.REFUSED),
    (answered(400, "SensitiveContentDetected.Violence"), Reason.REFUSED),
    (answered(401, "invalid_api_key"), Reason.SETUP),
    (answered(403), Reason.SETUP),
    (answered(404, "model_not_found"), Reason.SETUP),
    (answered(408), Reason.TOO_SLOW),
    (answered(409), Reason.AWAY),
    (answered(422), Reason.SETUP),
    (answered(429, "rate_limit_exceeded"), Reason.BUSY),
    (answered(429, "rate_limit_exceeded", **{"retry-after": "3600"}), Reason.BUSY),
    (answered(429, "insufficient_quota"), Reason.SETUP),
    (answered(500), Reason.AWAY),
    (answered(502), Reason.AWAY),
    (answered(503), Reason.BUSY),
    (answered(504), Reason.TOO_SLOW),
    (answered(529), Reason.BUSY),
    (answered(500, **{"retry-after": "3600"}), Reason.AWAY),
    (answered(502, **{"x-should-retry": "false"}), Reason.AWAY),
    (answered(409, **{"x-should-retry": "false"}), Reason.AWAY),
    (answered(503, **{"x-should-retry": "false"}), Reason.BUSY),
    (answered(302), Reason.SETUP),
    (told({"error": {"message": "vendor's words", "type": "server_error"}}), Reason.AWAY),
    (told({"error": {"code": "content_policy_violation"}}), Reason.REFUSED),
    (told({"error": {"code": "invalid_api_key"}}), Reason.SETUP),
    (told({"code": "rpm_rate_limit_exceeded"}), Reason.BUSY),
    (told({"code": "tpm_rate_limit_exceeded"}), Reason.BUSY),
    (told({"error_code": 336501}), Reason.BUSY),
    (told({"error_code": 336502}), Reason.BUSY),
    (told({"error_code": 18}), Reason.BUSY),
    (told({"error_code": 336100}), Reason.BUSY),
    (told({"error_code": 336003}), Reason.AWAY),
    (ended("not json"), Reason.NO_ANSWER),
    (ended(choice("", "stop"), "[DONE]"), Reason.NO_ANSWER),
    (ended(choice(None, "content_filter")), Reason.REFUSED),
    (ended(), Reason.SETUP),
    (ended(choice(None, "")), Reason.AWAY),
    (TransientError("model:empty", "the answer had no visible text"), Reason.NO_ANSWER),
    (TransientError("model:not_json", "the endpoint answered text/html"), Reason.SETUP),
    (Deadline(60, 5).error(), Reason.TOO_SLOW),
    (Deadline(5, 60).error(), Reason.TOO_SLOW),
    (OutcomeUnknownError("deadline:stalled"), Reason.TOO_SLOW),
    (OutcomeUnknownError("celery:soft_time_limit"), Reason.TOO_SLOW),
    (NotSentError("http:dns"), Reason.AWAY),
    (NotSentError("http:connect"), Reason.AWAY),
    (NotSentError("http:not_sent"), Reason.AWAY),
    (OutcomeUnknownError("http:too_large"), Reason.AWAY),
    (PermanentError("http:request"), Reason.SETUP),
    (PermanentError("model:none"), Reason.SETUP),
    (KeyRefusedError("model:no_key"), Reason.SETUP),
    (PermanentError("poison"), Reason.OURS),
    (ZeroDivisionError("what a person wrote"), Reason.OURS),
]

UNDELIVERED = [
    (PermanentError("uncertain_send"), Reason.UNCERTAIN),
    (PermanentError("feishu:230002"), Reason.REFUSED),
    (PermanentError("dingtalk:430101"), Reason.REFUSED),
    (PermanentError("push:no_route"), Reason.REFUSED),
    (RouteExpiredError("dingtalk:session.expired"), Reason.REFUSED),
    (RateLimitedError("feishu:230020"), Reason.BUSY),
    (RateLimitedError("dingtalk:flow_controlled"), Reason.BUSY),
    (TransientError("feishu:2200"), Reason.AWAY),
    (TransientError("token:busy"), Reason.AWAY),
    (NotSentError("http:connect"), Reason.AWAY),
    (DeadlineError("deadline:total"), Reason.AWAY),
    (OutcomeUnknownError("http:cut"), Reason.AWAY),
    (OutcomeUnknownError("celery:soft_time_limit"), Reason.AWAY),
    (PermanentError("poison"), Reason.OURS),
    (KeyError("what a person wrote"), Reason.OURS),
]


def named(value: object) -> str:
    return value.code if isinstance(value, TaskError) else type(value).__name__


@pytest.mark.parametrize(("error", "reason"), UNANSWERED, ids=named)
def test_why_there_is_no_answer(error: Exception, reason: Reason) -> None:
    assert unanswered(error) is reason
    assert notices.failed("why?", "trace-1", reason)


@pytest.mark.parametrize(("error", "reason"), UNDELIVERED, ids=named)
def test_why_an_answer_did_not_get_through(error: Exception, reason: Reason) -> None:
    assert undelivered(error) is reason
    assert notices.undelivered("why?", "trace-1", reason)


def test_every_reason_is_given_by_some_error() -> None:
    assert {reason for _, reason in UNANSWERED + UNDELIVERED} == set(Reason)
