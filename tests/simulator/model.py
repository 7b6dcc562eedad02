"""A stand-in for the large model: an OpenAI-compatible endpoint that repeats what was said."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import Any

from aiohttp import web

from tests.simulator import credentials as names
from tests.simulator import wire
from tests.simulator.completion import Completion, as_event, ragged, ragged_body
from tests.simulator.faults import Fault
from tests.simulator.key_desk import key_name
from tests.simulator.ledger import ModelCall
from tests.simulator.wire import Answer
from tests.simulator.world import World

_CHINESE = re.compile("[\u3400-\u9fff]")


class Model:
    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/{name:model|backup}/v1/chat/completions", self.complete)]

    async def complete(self, request: web.Request) -> web.StreamResponse:
        body = await wire.read_object(request)
        problem = self._problem(request, body)
        if problem:
            return wire.send(problem)
        question, earlier = read_messages(body["messages"])
        name = request.match_info["name"]
        fault = self._world.faults.take(name, question)
        call = ModelCall(
            question,
            len(body["messages"]),
            name,
            key_name(_bearer(request)),
            request.headers.get("traceparent", ""),
            bool(body.get("stream")),
        )
        self._world.ledger.start_model_call(call)
        outcome = "abandoned"
        try:
            response = await self._answer(request, body, fault, answer_to(question, earlier))
            outcome = fault.kind if fault else "done"
            return response
        finally:
            self._world.ledger.end_model_call(call, outcome)

    def _problem(self, request: web.Request, body: dict[str, Any]) -> Answer | None:
        if not self._world.keys.accepts(_bearer(request), str(body.get("model"))):
            return _error(401, "invalid_api_key", "Incorrect API key provided")
        if body.get("model") != self._world.credentials[names.MODEL_NAME]:
            return _error(404, "model_not_found", f"The model {body.get('model')!r} does not exist")
        messages = body.get("messages")
        if not (isinstance(messages, list) and all(isinstance(m, dict) for m in messages)):
            return _error(400, "invalid_messages", "messages must be a list of objects")
        if not any(m.get("role") == "user" for m in messages):
            return _error(400, "invalid_messages", "messages has no user message")
        return None

    async def _answer(
        self, request: web.Request, body: dict[str, Any], fault: Fault | None, text: str
    ) -> web.StreamResponse:
        is_streamed = bool(body.get("stream"))
        stalls = fault is not None and fault.kind == "hang" and fault.after_tokens > 0
        stalls &= is_streamed  # a whole answer has no beginning that comes before its end
        if fault and fault.stops_work and fault.kind != "empty" and not stalls:
            return await wire.refuse(request, fault, _fault_answer)
        completion = self._completion(fault, text)
        if self._world.pace.latency_s:
            await asyncio.sleep(self._world.pace.latency_s)
        if not is_streamed:
            return await _send_whole(request, fault, completion)
        if fault and fault.kind == "lose_response":
            return wire.hang_up(request)
        if fault and fault.kind == "slow":
            await asyncio.sleep(fault.delay_s)
        wants_usage = (body.get("stream_options") or {}).get("include_usage", False)
        events = list(completion.events(wants_usage=wants_usage))
        return await self._stream(request, fault, events)

    def _completion(self, fault: Fault | None, text: str) -> Completion:
        completion = Completion(
            model=self._world.credentials[names.MODEL_NAME],
            created=int(self._world.clock()),
            text=_ordered_text(fault, text),
            pieces=self._world.pace.tokens,
        )
        if fault and fault.kind == "think":
            return replace(completion, thought=fault.message)
        if fault and fault.kind == "finish":
            pieces = list(completion.text_pieces())[: fault.after_tokens]
            return replace(completion, text="".join(pieces), finish_reason=fault.finish_reason)
        return completion

    async def _stream(
        self, request: web.Request, fault: Fault | None, events: list[bytes]
    ) -> web.StreamResponse:
        headers = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        if fault and fault.kind == "drip":
            await wire.drip(response, b"".join(events), fault.bytes_per_s)
        elif fault and fault.kind == "ragged":
            for chunk in ragged(events):
                await response.write(chunk)
        elif fault and fault.kind in ("cut", "error_event", "hang", "unfinished"):
            await self._write(response, events[: fault.after_tokens])
            await _break_off(request, response, fault)
        else:
            await self._write(response, events)
        return response

    async def _write(self, response: web.StreamResponse, events: list[bytes]) -> None:
        interval_s = self._world.pace.token_interval_s
        if not interval_s:  # one write instead of one per token: cheap under load
            await response.write(b"".join(events))
            return
        for event in events:
            await response.write(event)
            await asyncio.sleep(interval_s)


def answer_to(question: str, earlier: int) -> str:
    """What the stand-in says: in the language of the question, which it repeats whole."""
    if _CHINESE.search(question):
        memory = f"记得之前的 {earlier} 轮对话" if earlier else "这是我们的第一轮对话"
        return f"你说：{question}\n（演示模型的回答，{memory}。）"
    turns = "turn" if earlier == 1 else "turns"
    memory = f"I remember {earlier} earlier {turns}" if earlier else "this is our first turn"
    return f"You said: {question}\n(The demo model is answering; {memory}.)"


def _bearer(request: web.Request) -> str:
    return request.headers.get("Authorization", "").removeprefix("Bearer ")


def read_messages(messages: list[dict[str, Any]]) -> tuple[str, int]:
    """The last thing the person said, and how many they had said before."""
    said = [_content_text(m.get("content")) for m in messages if m.get("role") == "user"]
    return said[-1], len(said) - 1


def _content_text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _ordered_text(fault: Fault | None, text: str) -> str:
    if fault is None:
        return text
    if fault.kind == "empty":
        return ""
    if fault.kind == "long" and not fault.answer_text:
        return (text + "\n") * (fault.chars // (len(text) + 1) + 1)
    return fault.answer_text or text


async def _send_whole(
    request: web.Request, fault: Fault | None, completion: Completion
) -> web.StreamResponse:
    """One body, with the faults of a stream as far as a body can have them."""
    answer = Answer(200, completion.whole())
    if fault and fault.kind == "ragged":
        return await wire.send_chunks(request, answer, ragged_body(completion.whole()))
    if fault and fault.kind == "error_event":
        answer = replace(_fault_answer(fault), status=200)
    if fault and fault.kind == "unfinished":
        text = answer.encode().decode()
        answer = Answer(200, text[: len(text) // 2], {"Content-Type": "application/json"})
    return await wire.spoil(request, fault, answer)


async def _break_off(request: web.Request, response: web.StreamResponse, fault: Fault) -> None:
    if fault.kind == "unfinished":
        return
    if fault.kind == "error_event":
        await response.write(as_event(_fault_answer(fault).body))
        return
    if fault.kind == "hang":
        await wire.refuse(request, fault, _fault_answer)
    wire.hang_up(request)


def _error(status: int, code: str, message: str) -> Answer:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return Answer(status, {"error": error})


def _fault_answer(fault: Fault) -> Answer:
    error = {"message": fault.message, "type": "server_error", "param": None, "code": fault.code}
    return Answer(fault.status or 500, {"error": error}, fault.headers)
