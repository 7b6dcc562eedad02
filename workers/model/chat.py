"""The large model: an OpenAI-compatible chat completion, streamed or whole.

Protocol: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.errors import (
    OutcomeUnknownError,
    PermanentError,
    TaskError,
    TransientError,
)
from shared.http_values import HttpRequest, HttpResponse
from shared.messages import cap_text
from shared.trace_context import Trace
from workers.client import HttpClient, StreamedResponse
from workers.deadline import Deadline
from workers.model.errors import body_error, http_error, short_word
from workers.model.sse import SseEvent, SseParser

MAX_TEXT_BYTES = 256 * 1024  #: of visible text; more is cut
MAX_REASONING_BYTES = 64 * 1024  #: kept of it; more is not even held
MAX_BODY_BYTES = 4 * 1024 * 1024  #: of a whole answer: escaped text, and reasoning beside it

OnText = Callable[[], None] | None  #: told once that an answer has begun

_FIRST_REFUSAL = 400  #: the least status that is one
_CUT_REASONS = frozenset({"length", "content_filter"})


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said. Never empty.

    finish_reason: the endpoint's, as a short word; empty when it gave none.
    cut: the text stops before its end: the stream ended or stalled, or a limit was reached.
    reasoning: what the model thought beside its answer, capped; never shown as text.
    model: its name in the settings. first_token_s: from the call to its first word or thought;
        0 for an answer that came whole.
    """

    text: str
    finish_reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cut: bool = False
    reasoning: str = ""
    model: str = field(default="", compare=False)
    first_token_s: float = field(default=0.0, compare=False)


def _new_span_id() -> str:
    return secrets.token_hex(8)


class Model:
    """One model at one endpoint. Thread-safe.

    endpoint: the base address, such as https://qianfan.baidubce.com/v2
    stream: False: the whole answer has to come within the deadline's stall budget.
    clock: Unix time, to read a `Retry-After` that is a date.
    new_span_id: 16 hex digits that name one call.
    """

    def __init__(
        self,
        client: HttpClient,
        *,
        endpoint: str,
        name: str,
        stream: bool = True,
        temperature: float | None = None,
        max_tokens: int | None = None,
        clock: Callable[[], float] = time.time,
        new_span_id: Callable[[], str] = _new_span_id,
    ) -> None:
        self._client = client
        self._endpoint = endpoint
        self._stream = stream
        self._settings = {"model": name, "temperature": temperature, "max_tokens": max_tokens}
        self._clock = clock
        self._new_span_id = new_span_id

    def answer(
        self,
        messages: list[dict[str, str]],
        bearer: str,
        deadline: Deadline,
        trace: Trace,
        on_text: OnText = None,
    ) -> Answer:
        """Ask once. Each token, seen or of reasoning, is progress for the deadline.

        on_text: called when a stream's first visible text is there, before the rest is read.

        Raises:
            DeadlineError: stalled, or out of time, before any text
            RateLimitedError, TransientError: may succeed later
            KeyRefusedError: `bearer` is not accepted; another key may be
            PermanentError: never will; its text says what the operator has to do
        """
        request = chat_request(
            self._endpoint,
            bearer,
            {**self._settings, "messages": messages},
            stream=self._stream,
            trace_headers=trace.headers(self._new_span_id()),
        )
        return self._ask(request, deadline, on_text)

    def _ask(self, request: HttpRequest, deadline: Deadline, on_text: OnText) -> Answer:
        reading = Reading(on_text=on_text)
        try:
            with self._client.stream(request, deadline) as response:
                if not (self._stream and _is_event_stream(response)):
                    return read_answer(_whole(response), now=self._clock())
                _read_events(response, reading, deadline)
        except OutcomeUnknownError as error:  # without an effect: it is simply made again
            if not reading.has_answer:
                raise TransientError("model:cut", error.detail) from error
        except TransientError:
            if not reading.has_answer:
                raise
        return reading.answer()


def chat_request(
    endpoint: str,
    key: str,
    settings: Mapping[str, Any],
    *,
    stream: bool,
    trace_headers: Mapping[str, str] | None = None,
) -> HttpRequest:
    """The request for a completion. `settings`: its JSON members; those that are None are left out.

    `endpoint` may already end with `/chat/completions`, as consoles often show it.
    """
    base = endpoint.rstrip("/").removesuffix("/chat/completions")
    body = {name: value for name, value in settings.items() if value is not None}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json",
        "Authorization": f"Bearer {key}",
        **(trace_headers or {}),
    }
    return HttpRequest.post_json(f"{base}/chat/completions", body, headers)


def read_answer(response: HttpResponse, *, now: float) -> Answer:
    """The answer in a whole response. Raises: as `Model.answer`. `now` is Unix time."""
    if not 200 <= response.status < 300:
        raise http_error(response, now=now)
    body = response.json_object()
    if not body:
        raise _unreadable(response.headers)
    reading = Reading(whole=True)
    reading.take(body)
    return reading.answer()


class Reading:
    """Puts an answer together from a stream's events, or from one whole body."""

    def __init__(self, *, whole: bool = False, on_text: OnText = None) -> None:
        self._on_text = on_text
        self._member = "message" if whole else "delta"
        self._pieces: list[str] = []
        self._thoughts: list[str] = []
        self._text_bytes = 0
        self._thought_chars = 0
        self._began_at = time.monotonic()
        self._first_token_s: float | None = None
        self._finish_reason = ""
        self._tokens = (0, 0)
        self._is_whole = self._is_done = whole
        self._is_empty = True
        self._error: TaskError | None = None

    @property
    def has_answer(self) -> bool:
        """There is text, or the model has said that it is finished."""
        return bool(self._pieces or self._finish_reason)

    def feed(self, data: str) -> bool:
        """One event's data. True: nothing more is needed."""
        if data.strip() == "[DONE]":
            self._is_done = True
            return True
        try:
            event = json.loads(data)
        except (ValueError, RecursionError):
            event = None
        if not isinstance(event, dict):
            self._error = TransientError("model:bad_event", "an event of the stream is not JSON")
            return True
        self.take(event)
        return self._error is not None or self._text_bytes > MAX_TEXT_BYTES

    def take(self, event: Mapping[str, Any]) -> None:
        self._is_empty = False
        usage, choices = event.get("usage"), event.get("choices")
        self._error = None if choices and not event.get("error") else body_error(event)
        if isinstance(usage, dict):
            self._tokens = (_count(usage, "prompt_tokens"), _count(usage, "completion_tokens"))
        if isinstance(choices, list) and choices and isinstance(choices[0], dict):
            self._take_choice(choices[0])

    def _take_choice(self, choice: Mapping[str, Any]) -> None:
        said = choice.get(self._member)
        if isinstance(said, dict):
            self._take_words(said)
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and reason:
            self._finish_reason = short_word(reason)

    def _take_words(self, said: Mapping[str, Any]) -> None:
        text, thought = said.get("content"), said.get("reasoning_content")
        if isinstance(thought, str) and thought:
            if self._thought_chars < MAX_REASONING_BYTES:
                self._thoughts.append(thought)
                self._thought_chars += len(thought)
        elif not (isinstance(text, str) and text):
            return
        if self._first_token_s is None and not self._is_whole:
            self._first_token_s = time.monotonic() - self._began_at
        if isinstance(text, str) and text:  # null beside reasoning_content, which is never text
            self._pieces.append(text)
            self._text_bytes += len(text.encode("utf-8", "surrogatepass"))
            if self._on_text is not None and not text.isspace():
                self._on_text()
                self._on_text = None

    def answer(self) -> Answer:
        """What was read. Raises: TaskError, when that is no text."""
        text = _joined(self._pieces)
        if not text.strip():
            raise self._failure()
        is_complete = bool(self._finish_reason) or (self._is_done and self._error is None)
        cut = not is_complete or self._finish_reason in _CUT_REASONS
        if self._text_bytes > MAX_TEXT_BYTES:
            text, cut = cap_text(text, MAX_TEXT_BYTES), True
        return Answer(
            text,
            self._finish_reason,
            *self._tokens,
            cut,
            cap_text(_joined(self._thoughts), MAX_REASONING_BYTES),
            first_token_s=self._first_token_s or 0.0,
        )

    def _failure(self) -> TaskError:
        if self._error is not None:
            return self._error
        if self._finish_reason == "content_filter":
            return PermanentError("model:content_filter", "the endpoint's filter held the answer")
        if self._is_done or self._finish_reason:
            return TransientError(
                "model:empty", f"the model said nothing (finish_reason {self._finish_reason!r})"
            )
        if self._is_empty:
            return TransientError(
                "model:not_events", "the stream held no event: check the model's endpoint"
            )
        return TransientError("model:cut", "the stream ended before any text")


def _read_events(response: StreamedResponse, reading: Reading, deadline: Deadline) -> None:
    parser = SseParser()
    for chunk in response.chunks():
        events = _parsed(parser, chunk)
        if events:
            deadline.progress()
        for event in events:
            if event.data is not None and reading.feed(event.data):
                response.finish()
                return
        deadline.check()  # a fast stream never waits, so the watchdog alone would not end it


def _parsed(parser: SseParser, chunk: bytes) -> list[SseEvent]:
    try:
        return parser.feed(chunk)
    except ValueError as error:
        raise TransientError("model:bad_event", str(error)) from error


def _whole(response: StreamedResponse) -> HttpResponse:
    """Of a refusal, status and headers say enough: a body that can't be read is an empty one."""
    try:
        return response.read(MAX_BODY_BYTES)
    except TransientError:
        if response.status < _FIRST_REFUSAL:
            raise
        return HttpResponse(response.status, response.headers, b"")


def _is_event_stream(response: StreamedResponse) -> bool:
    """Errors come as JSON, Qianfan's under HTTP 200, too; so does the answer of a server that
    can't stream."""
    return response.status == 200 and "json" not in response.headers.get("content-type", "").lower()


def _unreadable(headers: Mapping[str, str]) -> TransientError:
    kind = headers.get("content-type", "no content type")[:64]
    return TransientError(
        "model:not_json", f"the endpoint answered {kind}: check the model's endpoint"
    )


def _joined(pieces: list[str]) -> str:
    """The text; halves of a character that came in two events are put together."""
    text = "".join(pieces)
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _count(usage: Mapping[str, Any], name: str) -> int:
    value = usage.get(name)
    return value if type(value) is int else 0  # JSON's true is an int here, and Redis takes none
