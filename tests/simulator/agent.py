"""`python -m tests.simulator.agent`: a stand-in for an agent server, as OpenClaw's gateway is one.

It speaks chat completions on a port of its own, works for a while before it says a word, and says
it in one piece. What it copies, read in `src/gateway/openai-http.ts` of openclaw/openclaw and in
https://docs.openclaw.ai/gateway/openai-http-api:

- the gateway's token as Bearer; `model` names an agent, not a model;
- a request without `user` and `x-openclaw-session-key` is a session of its own;
- the headers of a stream are sent at once; then silence, or signs of life;
- a stream ends with [DONE], without finish_reason and without usage.
"""

from __future__ import annotations

import argparse
import asyncio
import hmac
import re
import secrets
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from aiohttp import web

from tests.simulator import wire
from tests.simulator.completion import KEEP_ALIVE, Completion, as_event
from tests.simulator.model import answer_to, read_messages

_AGENT = re.compile(r"openclaw(?:[/:](?P<one>[\w-]+))?|agent:(?P<other>[\w-]+)")
_AGENTS = frozenset({"default", "main"})
_SIGNS = ("comments", "reasoning", "none")


@dataclass(frozen=True, slots=True)
class Habit:
    """How it works. work_s: before the first word; sign: what it sends meanwhile, and how often."""

    work_s: float = 0.0
    sign: str = "comments"
    interval_s: float = 0.5


@dataclass(slots=True)
class Run:
    """One request that it worked on. `outcome` is empty meanwhile."""

    session: str
    text: str
    messages: int
    outcome: str = ""


@dataclass(slots=True)
class Agent:
    token: str
    habit: Habit = field(default_factory=Habit)
    runs: list[Run] = field(default_factory=list)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/chat/completions", self.complete),
            web.post("/control/habit", self.set_habit),
            web.get("/control/runs", self.tell_runs),
        ]

    async def complete(self, request: web.Request) -> web.StreamResponse:
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self.token}".encode()):
            return _error(401, "unauthorized", "Unauthorized")
        body = await wire.read_object(request)
        named = _AGENT.fullmatch(str(body.get("model")))
        if named is None or (named["one"] or named["other"] or "default") not in _AGENTS:
            return _error(400, "invalid_request_error", "Invalid `model`")
        question, earlier = read_messages(body["messages"])
        run = Run(_session(request, body), question, len(body["messages"]))
        self.runs.append(run)
        run.outcome = "abandoned"
        answer = Completion(body["model"], int(time.time()), answer_to(question, earlier), 1, "")
        response = await self._work(request, answer, is_stream=bool(body.get("stream")))
        run.outcome = "done"
        return response

    async def set_habit(self, request: web.Request) -> web.Response:
        """Set any of work_s, sign, interval_s; the others stay."""
        try:
            self.habit = replace(self.habit, **await wire.read_object(request))
        except TypeError as error:
            return _error(400, "invalid_request_error", str(error))
        if self.habit.sign not in _SIGNS:
            return _error(400, "invalid_request_error", f"sign: one of {', '.join(_SIGNS)}")
        return web.json_response(asdict(self.habit))

    async def tell_runs(self, _: web.Request) -> web.Response:
        return web.json_response([asdict(run) for run in self.runs])

    async def _work(
        self, request: web.Request, answer: Completion, *, is_stream: bool
    ) -> web.StreamResponse:
        if not is_stream:
            await asyncio.sleep(self.habit.work_s)
            return web.json_response(replace(answer, finish_reason="stop").whole())
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await self._be_busy(response)
        await response.write(_delta({"role": "assistant"}))
        for event in answer.events(wants_usage=False):
            await response.write(event)
        return response

    async def _be_busy(self, response: web.StreamResponse) -> None:
        thought = _delta({"reasoning_content": "hm"})
        sign = {"comments": KEEP_ALIVE, "reasoning": thought}.get(self.habit.sign)
        ends_at = time.monotonic() + self.habit.work_s
        while (left_s := ends_at - time.monotonic()) > 0:
            if sign:
                await response.write(sign)
            await asyncio.sleep(min(left_s, self.habit.interval_s))


def _delta(delta: dict[str, str]) -> bytes:
    return as_event({"choices": [{"index": 0, "delta": delta}]})


def _session(request: web.Request, body: dict[str, Any]) -> str:
    named = request.headers.get("x-openclaw-session-key") or body.get("user")
    return str(named or f"openai:{secrets.token_hex(8)}")


def _error(status: int, kind: str, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "type": kind}}, status=status)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulator.agent")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--token", required=True, help="the gateway's token")
    options = parser.parse_args(arguments)
    app = web.Application()
    app.add_routes(Agent(options.token).routes())
    web.run_app(
        app, host=options.host, port=options.port, access_log=None, handler_cancellation=True
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
