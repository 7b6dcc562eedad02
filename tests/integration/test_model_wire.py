"""The model over real sockets: recorded streams chunk by chunk, and a server that lets us down."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from shared.errors import (
    DeadlineError,
    KeyRefusedError,
    NotSentError,
    RateLimitedError,
    TransientError,
)
from shared.trace_context import Trace
from tests.integration import slow_server as slow
from workers.client import HttpClient
from workers.deadline import Deadline
from workers.model.chat import Answer, Model

VECTORS = json.loads(
    (Path(__file__).parents[1] / "vectors" / "model_stream.json").read_text("utf-8")
)["vectors"]
STREAMS = [pytest.param(v, id=v["id"]) for v in VECTORS if v["kind"] == "chat_stream"]

TEXT = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
MOST_S = 5.0


@pytest.fixture
def client() -> Iterator[HttpClient]:
    made = HttpClient(concurrency=2)
    yield made
    made.close()


def ask(
    client: HttpClient, server: slow.Server, deadline: Deadline | None = None, **settings: Any
) -> Answer:
    endpoint = f"http://127.0.0.1:{server.port}/v1"
    model = Model(client, endpoint=endpoint, name="test-model", **settings)
    return model.answer(
        [{"role": "user", "content": "hi"}], "sk-test", deadline or Deadline(60, 30), Trace("trace")
    )


@pytest.mark.parametrize("vector", STREAMS)
def test_recorded_stream_over_a_socket(vector: Any, client: HttpClient) -> None:
    events = [base64.b64decode(chunk) for chunk in vector["input"]["network_chunks_b64"]]
    with slow.serving(slow.streaming(*events)) as server:
        answer = ask(client, server)
    assert answer.text == vector["expect"]["text"]
    assert answer.finish_reason == (vector["expect"]["finish_reason"] or "")
    assert answer.cut is (vector["expect"]["error"] is not None)


def test_long_answer_goes_on_past_the_stall_budget_and_ends_at_the_total(
    client: HttpClient,
) -> None:
    def tokens(sock: Any) -> None:
        slow.drip(sock, b"%x\r\n%s\r\n" % (len(TEXT), TEXT))

    with slow.serving(slow.streaming(then=tokens)) as server:
        started = time.monotonic()
        answer = ask(client, server, Deadline(1.5, 0.5))
        took = time.monotonic() - started
    assert answer.cut
    assert len(answer.text) > 5
    assert 1.0 < took < MOST_S


def test_stall_after_some_text_gives_a_cut_answer(client: HttpClient) -> None:
    with slow.serving(slow.streaming(TEXT, then=slow.stall)) as server:
        assert ask(client, server, Deadline(60, 0.5)) == Answer("a", cut=True)


def test_bytes_that_make_no_event_are_no_progress(client: HttpClient) -> None:
    with slow.serving(slow.drip_chunks) as server:
        started = time.monotonic()
        with pytest.raises(DeadlineError, match="deadline:stalled"):
            ask(client, server, Deadline(60, 0.5))
        assert time.monotonic() - started < MOST_S


@pytest.mark.parametrize("stream", [True, False])
def test_stall_before_any_text_is_raised(stream: bool, client: HttpClient) -> None:
    with slow.serving(slow.stall) as server, pytest.raises(DeadlineError, match="stalled"):
        ask(client, server, Deadline(60, 0.5), stream=stream)


@pytest.mark.parametrize("stream", [True, False])
def test_cut_before_any_text_is_transient(stream: bool, client: HttpClient) -> None:
    with slow.serving(slow.close_after_request) as server, pytest.raises(TransientError) as caught:
        ask(client, server, stream=stream)
    assert (type(caught.value), caught.value.code) == (TransientError, "model:cut")


def test_endpoint_that_is_away_was_not_asked(client: HttpClient) -> None:
    server = slow.Server(slow.answer)
    server.close()
    with pytest.raises(NotSentError, match="http:connect"):
        ask(client, server)


TOO_SHORT = b"Content-Length: 999\r\n\r\n{}"
NOT_PACKED = b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("rest", [TOO_SHORT, NOT_PACKED], ids=["too short", "not packed"])
def test_a_refusal_whose_body_cannot_be_read_is_still_a_refusal(
    rest: bytes, stream: bool, client: HttpClient
) -> None:
    refused = partial(_say, b"HTTP/1.1 401 Unauthorized\r\n" + rest)
    with slow.serving(refused) as server, pytest.raises(KeyRefusedError, match="model:401"):
        ask(client, server, stream=stream)

    limited = partial(_say, b"HTTP/1.1 429 Too Many\r\nRetry-After: 30\r\n" + rest)
    with slow.serving(limited) as server, pytest.raises(RateLimitedError) as caught:
        ask(client, server, stream=stream)
    assert caught.value.retry_after_s == 30


def _say(data: bytes, sock: socket.socket) -> None:
    slow.read_request(sock)
    sock.sendall(data)
