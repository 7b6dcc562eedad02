"""The stand-ins for models: the ways to answer that the tests of the gateway order."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.integration.gateway import KNOWN, NOWHERE
from tests.simulator import credentials as names
from tests.simulator.agent import Agent
from tests.simulator.app import build_app
from tests.simulator.completion import KEEP_ALIVE, Completion, ragged
from tests.simulator.world import World
from workers.model.sse import SseParser

CREDENTIALS = names.complete(KNOWN, ("model",), NOWHERE)
TEXT = "一段比较长的中文文字 and some more of it"


class Caller:
    """Asks a stand-in as a gateway does."""

    def __init__(self, url: str, session: aiohttp.ClientSession, key: str, model: str) -> None:
        self.url = url
        self.session = session
        self.key = key
        self.model = model

    async def ask(self, text: str, **more: Any) -> tuple[int, bytes]:
        messages = [{"role": "user", "content": text}]
        body = {"model": self.model, "messages": messages, "stream": True, **more}
        headers = {"Authorization": f"Bearer {self.key}"}
        async with self.session.post(self.url, json=body, headers=headers) as response:
            return response.status, await response.read()

    async def deltas(self, text: str, **more: Any) -> list[dict[str, Any]]:
        """The choices of a stream, without its ends."""
        status, raw = await self.ask(text, **more)
        assert status == 200
        told = [event.data for event in SseParser().feed(raw) if event.data]
        values = [json.loads(data) for data in told if data != "[DONE]"]
        return [choice for value in values for choice in value["choices"]]


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as made:
        yield made


@pytest.fixture
def world() -> World:
    return World(CREDENTIALS, ("model",), NOWHERE, NOWHERE)


@pytest.fixture
async def model(world: World, session: aiohttp.ClientSession) -> AsyncIterator[Caller]:
    async for port in serving(build_app(world)):
        url = f"http://127.0.0.1:{port}/model/v1/chat/completions"
        key, name = CREDENTIALS[names.MODEL_KEY], CREDENTIALS[names.MODEL_NAME]
        yield Caller(url, session, key, name)


@pytest.fixture
def agent_server() -> Agent:
    return Agent("gateway-token")


@pytest.fixture
async def agent(agent_server: Agent, session: aiohttp.ClientSession) -> AsyncIterator[Caller]:
    app = web.Application()
    app.add_routes(agent_server.routes())
    async for port in serving(app):
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        yield Caller(url, session, "gateway-token", "openclaw/main")


async def serving(app: web.Application) -> AsyncIterator[int]:
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def test_a_ragged_stream_says_what_a_tidy_one_says() -> None:
    events = list(Completion("m", 1, TEXT, 3).events(wants_usage=True))
    chunks = list(ragged(events))
    tidy, torn = SseParser(), SseParser()

    said = [event.data for event in tidy.feed(b"".join(events))]
    heard = [event.data for chunk in chunks for event in torn.feed(chunk)]

    assert [json_or_text(data) for data in heard if data] == [json_or_text(d) for d in said]
    assert heard.count(None) == len(events)
    with pytest.raises(UnicodeDecodeError):  # a character is cut in two
        [chunk.decode() for chunk in chunks]


def json_or_text(data: str | None) -> Any:
    return data if data == "[DONE]" else json.loads(data or "")


async def test_an_answer_can_end_for_another_reason(model: Caller, world: World) -> None:
    world.faults.order({"target": "model", "kind": "finish", "after_tokens": 1})
    *pieces, end = await model.deltas(TEXT)

    assert end["finish_reason"] == "length"
    assert "".join(piece["delta"]["content"] for piece in pieces) == "你说：一"


async def test_a_filtered_answer_is_null(model: Caller, world: World) -> None:
    fault = {"target": "model", "kind": "finish", "finish_reason": "content_filter", "times": 2}
    world.faults.order(fault)
    (end,) = await model.deltas(TEXT)
    _, whole = await model.ask(TEXT, stream=False)

    (choice,) = json.loads(whole)["choices"]
    assert (end["delta"], end["finish_reason"]) == ({}, "content_filter")
    assert (choice["message"]["content"], choice["finish_reason"]) == (None, "content_filter")


async def test_an_unfinished_stream_ends_without_a_mark(model: Caller, world: World) -> None:
    world.faults.order({"target": "model", "kind": "unfinished", "after_tokens": 2})
    _, raw = await model.ask(TEXT)

    assert raw.count(b"data:") == 2
    assert b"[DONE]" not in raw
    assert b"finish_reason" not in raw


async def test_a_tool_is_called_beside_an_answer_or_without_one(
    model: Caller, world: World
) -> None:
    fault = {"target": "model", "kind": "finish", "finish_reason": "tool_calls", "times": 2}
    world.faults.order(fault)
    called, end = await model.deltas(TEXT)
    _, whole = await model.ask(TEXT, stream=False)

    (choice,) = json.loads(whole)["choices"]
    assert called["delta"]["tool_calls"][0]["function"]["name"] == "look_up"
    assert (end["finish_reason"], choice["finish_reason"]) == ("tool_calls", "tool_calls")
    assert (choice["message"]["content"], len(choice["message"]["tool_calls"])) == (None, 1)


async def test_a_whole_answer_has_the_faults_of_a_stream(model: Caller, world: World) -> None:
    _, tidy = await model.ask(TEXT, stream=False)
    for kind in ("ragged", "error_event", "unfinished"):
        world.faults.order({"target": "model", "kind": kind, "code": "overloaded"})
    (torn_status, torn), (error_status, error), (half_status, half) = [
        await model.ask(TEXT, stream=False) for _ in range(3)
    ]

    assert (torn_status, error_status, half_status) == (200, 200, 200)
    assert json.loads(torn)["choices"] == json.loads(tidy)["choices"]
    assert b"\r\n" in torn
    assert json.loads(error)["error"]["code"] == "overloaded"
    assert half.startswith(b'{"id":')
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        json.loads(half)


async def test_a_silent_model_is_silent_whole_too(model: Caller, world: World) -> None:
    fault = {"target": "model", "kind": "hang", "after_tokens": 2, "delay_s": 0.1}
    world.faults.order(fault)

    with pytest.raises(aiohttp.ClientConnectionError):
        await model.ask(TEXT, stream=False)


async def test_a_model_can_think_aloud(model: Caller, world: World) -> None:
    world.faults.order({"target": "model", "kind": "think", "message": "let me see"})
    thought, *rest = await model.deltas(TEXT)

    assert thought["delta"] == {"content": None, "reasoning_content": "let me see"}
    assert rest[0]["delta"]["content"]


@pytest.mark.parametrize("sign", ["comments", "reasoning", "none"])
async def test_an_agent_works_before_it_speaks(
    sign: str, agent: Caller, agent_server: Agent
) -> None:
    habit = {"work_s": 0.2, "sign": sign, "interval_s": 0.05}
    url = agent.url.replace("/v1/chat/completions", "/control/habit")
    async with agent.session.post(url, json=habit) as response:
        assert response.status == 200
    _, raw = await agent.ask(TEXT)

    signs = {"comments": KEEP_ALIVE, "reasoning": b"reasoning_content", "none": b"data"}[sign]
    assert raw.count(signs) >= 2
    assert raw.endswith(b"data: [DONE]\n\n")
    assert b"finish_reason" not in raw
    assert TEXT.encode() in raw
    assert [run.outcome for run in agent_server.runs] == ["done"]


async def test_an_agent_keeps_a_session_only_for_who_names_one(
    agent: Caller, agent_server: Agent
) -> None:
    for more in ({}, {}, {"user": "ada"}, {"user": "ada"}):
        await agent.ask(TEXT, **more)

    first, second, *named = [run.session for run in agent_server.runs]
    assert first != second
    assert named == ["ada", "ada"]


@pytest.mark.parametrize(
    ("key", "model", "status"),
    [
        ("gateway-token", "openclaw", 200),
        ("gateway-token", "openclaw:main", 200),
        ("gateway-token", "agent:main", 200),
        ("gateway-token", "openclaw/nobody", 400),
        ("gateway-token", "gpt-4o", 400),
        ("another", "openclaw", 401),
    ],
)
async def test_an_agent_server_checks_its_token_and_its_agents(
    key: str, model: str, status: int, agent: Caller
) -> None:
    agent.key, agent.model = key, model

    assert (await agent.ask(TEXT))[0] == status
