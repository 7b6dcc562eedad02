"""The model's protocol, on vectors recorded with the openai SDK, and every way an answer fails."""

from __future__ import annotations

import base64
import json
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from shared.errors import (
    DeadlineError,
    FailedForNowError,
    KeyRefusedError,
    NotSentError,
    OutcomeUnknownError,
    PermanentError,
    RateLimitedError,
    TaskError,
    TransientError,
)
from shared.http_values import HttpRequest, HttpResponse
from shared.trace_context import Trace
from workers.deadline import Deadline
from workers.model.chat import (
    MAX_REASONING_BYTES,
    MAX_TEXT_BYTES,
    Answer,
    Model,
    OnText,
    chat_request,
    read_answer,
)
from workers.model.errors import http_error, is_retryable, server_delay_s

VECTORS = json.loads(
    (Path(__file__).parents[1] / "vectors" / "model_stream.json").read_text("utf-8")
)["vectors"]

NOW = 1_763_791_200.0
MESSAGES = [{"role": "user", "content": "你好"}]


def of_kind(kind: str) -> list[Any]:
    return [pytest.param(v["input"], v["expect"], id=v["id"]) for v in VECTORS if v["kind"] == kind]


TRACE = Trace("trace-1")


class Wire:
    """In the client's place: answers with these bytes, then fails or ends."""

    def __init__(
        self,
        *chunks: bytes,
        status: int = 200,
        content_type: str = "text/event-stream",
        headers: dict[str, str] | None = None,
        failure: TaskError | None = None,
    ) -> None:
        self.status = status
        self.headers = {"content-type": content_type, **(headers or {})}
        self._chunks = chunks
        self._failure = failure
        self.requests: list[HttpRequest] = []
        self.is_finished = False
        self.chunks_read = 0

    @contextmanager
    def stream(self, request: HttpRequest, _: Deadline) -> Iterator[Wire]:
        self.requests.append(request)
        yield self

    def chunks(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self.chunks_read += 1
            yield chunk
        if self._failure is not None:
            raise self._failure

    def read(self, _: int) -> HttpResponse:
        return HttpResponse(self.status, self.headers, b"".join(self.chunks()))

    def finish(self) -> None:
        self.is_finished = True


def ask(
    wire: Wire,
    deadline: Deadline | None = None,
    on_text: OnText = None,
    trace: Trace = TRACE,
    **settings: Any,
) -> Answer:
    model = Model(
        wire,  # type: ignore[arg-type]
        endpoint="http://model.example/v1",
        name="test-model",
        clock=lambda: NOW,
        **settings,
    )
    return model.answer(MESSAGES, "sk-test", deadline or Deadline(60, 5), trace, on_text)


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def said(text: str | None, reason: str | None = None, **delta: Any) -> bytes:
    return event({"choices": [{"delta": {"content": text, **delta}, "finish_reason": reason}]})


DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize(("given", "expect"), of_kind("chat_stream"))
def test_recorded_stream(given: Any, expect: Any) -> None:
    chunks = [base64.b64decode(chunk) for chunk in given["network_chunks_b64"]]
    answer = ask(Wire(*chunks, status=given["http_status"], content_type=given["content_type"]))
    usage = expect["usage"] or {}
    assert answer == Answer(
        expect["text"],
        expect["finish_reason"] or "",
        usage.get("prompt_tokens", 0),
        usage.get("completion_tokens", 0),
        cut=expect["error"] is not None,
        reasoning=expect["reasoning"],
    )


CLASSES = {"auth": KeyRefusedError, "rate_limited": RateLimitedError, "server": TransientError}


@pytest.mark.parametrize(("given", "expect"), of_kind("chat_response"))
def test_recorded_response(given: Any, expect: Any) -> None:
    body = base64.b64decode(given["body_b64"])
    response = HttpResponse(given["http_status"], given["headers"], body)
    if expect["result"] is None:
        with pytest.raises(CLASSES[expect["error_class"]]) as caught:
            read_answer(response, now=NOW)
        assert caught.value.code == f"model:{given['http_status']}"
        assert type(caught.value) is CLASSES[expect["error_class"]]
        return
    result = expect["result"]
    answer = read_answer(response, now=NOW)
    assert (answer.text, answer.finish_reason) == (result["text"], result["finish_reason"])
    assert answer.prompt_tokens == result["usage"]["prompt_tokens"]
    assert answer.completion_tokens == result["usage"]["completion_tokens"]
    assert not answer.cut


@pytest.mark.parametrize(("given", "expect"), of_kind("retry_decision"))
def test_recorded_retry_decision(given: Any, expect: Any) -> None:
    status, headers = given["http_status"], given["headers"]
    assert is_retryable(status, headers) is expect["retry"]
    assert server_delay_s(headers, now=NOW) == expect["server_delay_s"]
    if status != 200:
        error = http_error(HttpResponse(status, headers, b""), now=NOW)
        assert isinstance(error, TransientError if expect["retry"] else PermanentError)
        assert getattr(error, "retry_after_s", 0) == (expect["server_delay_s"] or 0)


@pytest.mark.parametrize(("given", "expect"), of_kind("http_request"))
def test_recorded_request(given: Any, expect: Any) -> None:
    arguments = dict(given["arguments"])
    is_stream = arguments.pop("stream", False)
    arguments.pop("stream_options", None)
    endpoint = f"http://model.example{given['base_path']}"
    request = chat_request(endpoint, given["bearer"], arguments, stream=is_stream)
    assert (request.method, urlsplit(request.url).path) == (expect["method"], expect["path"])
    headers = {name.lower(): value for name, value in request.headers.items()}
    assert expect["headers"].items() <= headers.items()
    assert json.loads(request.body) == expect["json"]


@pytest.mark.parametrize("tail", ["", "/", "/chat/completions", "/chat/completions/"])
def test_endpoint_may_be_given_with_or_without_the_path(tail: str) -> None:
    request = chat_request(f"https://model.example/v1{tail}", "k", {}, stream=False)
    assert request.url == "https://model.example/v1/chat/completions"


def test_settings_and_trace_id_are_sent_and_unset_ones_left_out() -> None:
    wire = Wire(said("a"), DONE)
    ask(wire, temperature=0.0)
    body = json.loads(wire.requests[0].body)
    assert (body["model"], body["temperature"], body["messages"]) == ("test-model", 0.0, MESSAGES)
    assert "max_tokens" not in body
    assert wire.requests[0].headers["X-Trace-Id"] == "trace-1"


def test_every_call_is_a_span_of_its_own_in_the_callers_trace() -> None:
    wire = Wire(said("a"), DONE)
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    trace = Trace("c91c3e84ebb4e404745addee", f"00-{trace_id}-00f067aa0ba902b7-01", "rojo=1")

    for _ in range(2):
        ask(wire, trace=trace)

    sent = [request.headers["traceparent"].split("-") for request in wire.requests]
    assert [(ver, trace, flags) for ver, trace, _, flags in sent] == 2 * [("00", trace_id, "01")]
    spans = {span for _, _, span, _ in sent}
    assert len(spans) == 2
    assert "00f067aa0ba902b7" not in spans
    assert [request.headers["tracestate"] for request in wire.requests] == ["rojo=1", "rojo=1"]


def test_connection_is_finished_after_the_done_mark() -> None:
    wire = Wire(said("a"), DONE)
    assert ask(wire) == Answer("a")
    assert wire.is_finished


class ProgressCount(Deadline):
    __slots__ = ("count",)

    def progress(self) -> None:
        self.count = getattr(self, "count", -1) + 1  # the first one is the deadline's own
        super().progress()


def test_tokens_reasoning_and_comments_are_progress_and_pieces_of_events_are_not() -> None:
    deadline = ProgressCount(60, 5)
    ask(
        Wire(b": ping\n\n", said(None, reasoning_content="想"), said("a"), b"da", b"ta: "), deadline
    )
    assert deadline.count == 3


def test_the_first_visible_text_is_told_at_once_and_once() -> None:
    comment, thought = b": keep-alive\n\n", said(None, reasoning_content="hm")
    wire = Wire(comment, thought, said(""), said(" \n"), said("a"), said("b"), DONE)
    begun_at: list[int] = []

    ask(wire, on_text=lambda: begun_at.append(wire.chunks_read))

    assert begun_at == [5]


def test_an_answer_without_text_never_begins() -> None:
    begun: list[bool] = []

    with pytest.raises(TransientError, match="model:empty"):
        ask(Wire(said(" "), DONE), on_text=lambda: begun.append(True))

    assert begun == []


def test_reasoning_is_never_text() -> None:
    wire = Wire(said(None, reasoning_content="想一想"), said("答", "stop"), DONE)
    answer = ask(wire)
    assert (answer.text, answer.reasoning) == ("答", "想一想")


def test_reasoning_of_a_whole_answer_is_kept_apart() -> None:
    message = {"content": "答", "reasoning_content": "想"}
    body = json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode()
    answer = ask(Wire(body), stream=False)
    assert (answer.text, answer.reasoning) == ("答", "想")


def test_reasoning_without_end_is_read_and_not_held() -> None:
    thought = said(None, reasoning_content="t" * 100_000)
    wire = Wire(*[thought] * 100, said("a", "stop"), DONE)

    tracemalloc.start()
    try:
        answer = ask(wire)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert (answer.text, len(answer.reasoning)) == ("a", MAX_REASONING_BYTES)
    assert peak_bytes < 2_000_000


STALLED = DeadlineError("deadline:stalled", "no progress in time")
LOST = OutcomeUnknownError("http:cut", "no whole answer")


@pytest.mark.parametrize("failure", [STALLED, LOST, NotSentError("http:connect")])
def test_failure_before_any_text_is_raised(failure: TaskError) -> None:
    with pytest.raises(TransientError) as caught:
        ask(Wire(said("", role="assistant"), said(None, reasoning_content="想"), failure=failure))
    assert not isinstance(caught.value, OutcomeUnknownError)  # asking again does no harm
    assert isinstance(caught.value, DeadlineError) is (failure is STALLED)


@pytest.mark.parametrize("failure", [STALLED, LOST])
def test_failure_after_some_text_gives_a_cut_answer(failure: TaskError) -> None:
    assert ask(Wire(said("半"), failure=failure)) == Answer("半", cut=True)


@pytest.mark.parametrize("failure", [STALLED, LOST, None])
def test_failure_after_the_finish_reason_gives_a_whole_answer(failure: TaskError | None) -> None:
    assert ask(Wire(said("全", "stop"), failure=failure)) == Answer("全", "stop")


def test_stream_that_ends_without_any_mark_is_cut() -> None:
    assert ask(Wire(said("半"))) == Answer("半", cut=True)
    with pytest.raises(TransientError, match="model:cut"):
        ask(Wire(said("")))


def test_expired_deadline_ends_a_stream_that_never_waits() -> None:
    deadline = Deadline(0)
    wire = Wire(said("a"), said("b"), DONE)
    assert ask(wire, deadline) == Answer("a", cut=True)
    assert wire.chunks_read == 1


@pytest.mark.parametrize(
    ("value", "kind", "code"),
    [
        ({"error": {"message": "x", "code": "internal"}}, TransientError, "model:internal"),
        ({"error": {"message": "x", "type": "server_error"}}, TransientError, "model:server_error"),
        ({"error": "boom"}, TransientError, "model:error"),
        ({"error": {"code": 429}}, RateLimitedError, "model:429"),
        ({"error": {"code": "insufficient_quota"}}, PermanentError, "model:insufficient_quota"),
        ({"error": {"code": "invalid_api_key"}}, KeyRefusedError, "model:invalid_api_key"),
        (
            {"code": "rpm_rate_limit_exceeded", "message": "x"},
            RateLimitedError,
            "model:rpm_rate_limit_exceeded",
        ),
        ({"error_code": 336501, "error_msg": "x"}, RateLimitedError, "model:336501"),
        ({"error_code": 18, "error_msg": "x"}, RateLimitedError, "model:18"),
        ({"error_code": 336100, "error_msg": "x"}, TransientError, "model:336100"),
        ({"error": {"code": "你好\n" * 40}}, TransientError, "model:" + "_" * 64),
    ],
)
@pytest.mark.parametrize("way", ["event", "json under stream", "whole"])
def test_error_under_http_200(value: Any, kind: type[TaskError], code: str, way: str) -> None:
    as_json = {"content_type": "application/json"}
    if way == "event":
        wire = Wire(event(value), DONE)
    else:
        wire = Wire(json.dumps(value).encode(), **as_json)
    with pytest.raises(kind) as caught:
        ask(wire, stream=way != "whole")
    assert type(caught.value) is kind
    assert caught.value.code == code


@pytest.mark.parametrize("code", [0, "0", 200, "ok", "Success", None, "", False])
def test_codes_of_success_are_no_error(code: Any) -> None:
    body = {"code": code, "choices": [{"message": {"content": "好"}, "finish_reason": "stop"}]}
    response = HttpResponse(200, {}, json.dumps(body).encode())
    assert read_answer(response, now=NOW) == Answer("好", "stop")


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON"])
def test_whole_answer_to_a_stream_request_is_understood(kind: str) -> None:
    body = {"choices": [{"message": {"content": "好"}, "finish_reason": "stop"}]}
    wire = Wire(json.dumps(body).encode(), content_type=kind)
    assert ask(wire) == Answer("好", "stop")


@pytest.mark.parametrize("stream", [True, False])
def test_empty_answer_is_an_error(stream: bool) -> None:
    choice = {"delta": {"content": " \n"}, "message": {"content": None}, "finish_reason": "stop"}
    body = json.dumps({"choices": [choice]}).encode()
    wire = Wire(b"data: " + body + b"\n\n", DONE) if stream else Wire(body)
    with pytest.raises(TransientError, match="model:empty"):
        ask(wire, stream=stream)


@pytest.mark.parametrize("told", [True, "12", 1.5, None])
def test_a_count_of_tokens_that_is_no_number_is_none(told: Any) -> None:
    usage = event({"usage": {"prompt_tokens": told, "completion_tokens": 7}})
    answer = ask(Wire(said("a", "stop"), usage, DONE))
    assert (answer.prompt_tokens, type(answer.prompt_tokens)) == (0, int)
    assert answer.completion_tokens == 7


def test_finish_reason_is_a_short_word_wherever_it_is_told() -> None:
    reason = "你好 what a person wrote\n" * 40

    told = ask(Wire(said("a", reason), DONE)).finish_reason
    with pytest.raises(TransientError, match="model:empty") as caught:
        ask(Wire(said(" ", reason), DONE))

    assert (len(told), told.isascii()) == (64, True)
    assert told in caught.value.detail
    assert "你好" not in caught.value.detail


def test_answer_held_by_the_filter_is_permanent() -> None:
    with pytest.raises(PermanentError, match="model:content_filter"):
        ask(Wire(said(None, "content_filter"), DONE))


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_answer_ended_by_a_limit_is_marked_as_cut(reason: str) -> None:
    assert ask(Wire(said("半", reason), DONE)) == Answer("半", reason, cut=True)


def test_bad_event_before_text_is_transient_and_after_it_cuts() -> None:
    with pytest.raises(TransientError, match="model:bad_event"):
        ask(Wire(b"data: {broken\n\n", DONE))
    assert ask(Wire(said("半"), b"data: [1]\n\n", DONE)) == Answer("半", cut=True)


def test_endless_event_is_transient() -> None:
    with pytest.raises(TransientError, match="model:bad_event"):
        ask(Wire(*[b"x" * 100_000] * 20))


@pytest.mark.parametrize(
    ("stream", "code"), [(True, "model:not_events"), (False, "model:not_json")]
)
def test_page_instead_of_an_answer_names_the_setting(stream: bool, code: str) -> None:
    with pytest.raises(TransientError, match=code) as caught:
        ask(Wire(b"<html>hello</html>", content_type="text/html"), stream=stream)
    assert "check the model's endpoint" in caught.value.detail


def test_text_over_the_cap_stops_the_reading() -> None:
    wire = Wire(*[said("字" * 10_000)] * 100, DONE)
    answer = ask(wire)
    assert answer.cut
    assert MAX_TEXT_BYTES - 3 < len(answer.text.encode()) <= MAX_TEXT_BYTES
    assert wire.chunks_read < 12


def test_character_split_over_two_events_is_joined() -> None:
    first, second = b"\\ud83d", b"\\ude00"
    halves = [
        b'data: {"choices":[{"delta":{"content":"' + half + b'"}}]}\n\n' for half in (first, second)
    ]
    assert ask(Wire(*halves, DONE)).text == "😀"


@pytest.mark.parametrize(
    ("status", "setting"),
    [
        (400, "name"),
        (401, "ak_secret"),
        (402, "money"),
        (403, "ak_id"),
        (404, "endpoint"),
        (422, "name"),
        (302, "endpoint"),
    ],
)
def test_permanent_refusal_tells_the_operator_what_to_check(status: int, setting: str) -> None:
    body = json.dumps({"error": {"message": "你好 sk-test", "code": "some_code"}}).encode()
    with pytest.raises(PermanentError) as caught:
        ask(Wire(body, status=status, content_type="application/json"))
    assert caught.value.code == f"model:{status}"
    assert setting in caught.value.detail.removeprefix("model endpoint: ")
    assert "CLAWDBOT_" not in caught.value.detail, "it may be any model of the settings"
    assert "some_code" in caught.value.detail
    assert "你好" not in caught.value.detail


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "content_filter"),
        (400, "data_inspection_failed"),
        (400, "DataInspectionFailed"),
        (400, "SensitiveContentDetected.Violence"),
        (403, "OutputTextRiskDetection"),
    ],
)
def test_content_that_a_vendor_refuses_has_one_code_of_ours(status: int, code: str) -> None:
    body = json.dumps({"error": {"code": code, "message": "vendor's words"}}).encode()
    error = http_error(HttpResponse(status, {}, body), now=NOW)

    assert (type(error), error.code) == (PermanentError, "model:content_filter")
    assert code in error.detail


def test_spent_quota_is_permanent_although_429() -> None:
    body = b'{"error":{"code":"insufficient_quota","type":"insufficient_quota"}}'
    with pytest.raises(PermanentError, match="model:insufficient_quota"):
        ask(Wire(body, status=429, content_type="application/json"))


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry-after": "Sat, 22 Nov 2025 06:00:30 GMT"}, 30.0),
        ({"retry-after": "Sat, 22 Nov 2025 05:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after-ms": "x", "retry-after": "3"}, 3.0),
    ],
)
def test_wait_asked_for(headers: dict[str, str], wait_s: float | None) -> None:
    assert server_delay_s(headers, now=NOW) == wait_s


def test_wait_over_two_minutes_is_given_up() -> None:
    error = http_error(HttpResponse(429, {"retry-after": "121"}, b""), now=NOW)
    assert isinstance(error, FailedForNowError)
    assert error.retry_after_s == 121
    error = http_error(HttpResponse(503, {"retry-after": "120"}, b""), now=NOW)
    assert isinstance(error, TransientError)
    assert error.retry_after_s == 120


def test_header_can_make_a_refusal_worth_repeating() -> None:
    error = http_error(HttpResponse(400, {"x-should-retry": "true"}, b""), now=NOW)
    assert isinstance(error, TransientError)
