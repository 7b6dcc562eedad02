"""A model and two platforms that cost next to nothing: canned bytes from one asyncio protocol.

`python -m tests.bench.upstream --port N`. Some 20 µs a call, where the simulator takes ten times
as much: on a small machine a careful fake would be what is measured. It believes everybody.

| call | answer |
|---|---|
| `POST …/chat/completions` | after the ordered latency: a stream of events, or one body |
| Feishu token, `…/reply` · DingTalk token, `…/sendBySession` | success at once |
| `POST /control/latency?s=1` | the model's latency from now on |
| `GET /control/replies?reach=N` | when N replies were counted since the start: their number |
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import uvloop

from tests.bench.http_bytes import END_OF_HEAD, content_length

FRAME: dict[str, Any] = {"id": "chatcmpl-1", "created": 1, "model": "bench"}
USAGE = {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21}
PIECES = ("You said: ", "hello. ", "The model of the ", "bench answers.")


def _response(body: bytes, kind: bytes = b"application/json") -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n"
    return head % (kind, len(body)) + body


def _json_response(value: Any) -> bytes:
    return _response(json.dumps(value).encode())


def _stream() -> bytes:
    """What an OpenAI-compatible endpoint streams, as one chunk a server-sent event."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": piece} for piece in PIECES]
    choices: list[Any] = [[{"index": 0, "delta": delta, "finish_reason": None}] for delta in deltas]
    choices.append([{"index": 0, "delta": {}, "finish_reason": "stop"}])
    events = [json.dumps({**FRAME, "choices": choice}) for choice in choices]
    events += [json.dumps({**FRAME, "choices": [], "usage": USAGE}), "[DONE]"]
    lines = [f"data: {event}\n\n".encode() for event in events]
    body = b"".join(b"%x\r\n%b\r\n" % (len(line), line) for line in lines) + b"0\r\n\r\n"
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    return head + body


STREAM = _stream()
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "".join(PIECES)}}
WHOLE = _json_response({**FRAME, "choices": [{**CHOICE, "finish_reason": "stop"}], "usage": USAGE})
FEISHU_REPLY = _json_response({"code": 0, "msg": "success", "data": {"message_id": "om_bench"}})
FEISHU_TOKEN = _json_response(
    {"code": 0, "msg": "ok", "tenant_access_token": "t-bench", "expire": 7200}
)
DINGTALK_REPLY = _json_response({"errcode": 0, "errmsg": "ok"})
DINGTALK_TOKEN = _json_response({"accessToken": "bench", "expireIn": 7200})
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


class Counter:
    """What all connections share."""

    def __init__(self) -> None:
        self.latency_s = 0.0
        self.replies = 0
        self._waiting: list[tuple[int, Callable[[], None]]] = []

    def count(self) -> None:
        self.replies += 1
        if self._waiting and self.replies >= self._waiting[0][0]:
            self._waiting.pop(0)[1]()

    def when(self, reached: int, call: Callable[[], None]) -> None:
        """Call as soon as so many replies were counted."""
        if self.replies >= reached:
            call()
        else:
            self._waiting.append((reached, call))
            self._waiting.sort(key=lambda waiting: waiting[0])


class Upstream(asyncio.Protocol):
    """One connection; requests are answered in their order, one at a time."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._buffer = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(END_OF_HEAD)) >= 0:
            head = self._buffer[:end]
            size = end + 4 + content_length(head)
            if len(self._buffer) < size:
                return
            body, self._buffer = self._buffer[end + 4 : size], self._buffer[size:]
            self._answer(head[: head.find(b"\r\n")].split(b" ")[1], body)

    def _answer(self, path: bytes, body: bytes) -> None:
        if path.endswith(b"/chat/completions"):
            answer = STREAM if b'"stream":true' in body.replace(b" ", b"") else WHOLE
            self._model(answer)
        elif path.endswith(b"/reply"):
            self._write(FEISHU_REPLY)
            self._counter.count()
        elif b"/sendBySession" in path:
            self._write(DINGTALK_REPLY)
            self._counter.count()
        elif path.endswith(b"/tenant_access_token/internal"):
            self._write(FEISHU_TOKEN)
        elif path.endswith(b"/accessToken"):
            self._write(DINGTALK_TOKEN)
        else:
            self._control(path.decode())

    def _model(self, answer: bytes) -> None:
        if self._counter.latency_s:
            loop = asyncio.get_running_loop()
            loop.call_later(self._counter.latency_s, self._write, answer)
        else:
            self._write(answer)

    def _control(self, target: str) -> None:
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/control/latency":
            self._counter.latency_s = float(query["s"])
            self._write(_json_response({}))
        elif parts.path == "/control/replies":
            self._counter.when(int(query.get("reach", 0)), self._tell)
        else:
            self._write(NOT_FOUND)

    def _tell(self) -> None:
        self._write(_json_response({"replies": self._counter.replies}))

    def _write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)


async def _serve(port: int) -> None:
    counter = Counter()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Upstream(counter), "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(_serve(parser.parse_args().port))
