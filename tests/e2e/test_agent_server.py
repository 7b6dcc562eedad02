"""An agent server as the model: long work, signs of life or none. See docs/agent-server.md."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.e2e.processes import Process
from tests.e2e.stack import ROOT, Stack
from tests.e2e.talk import Talk, eventually
from tests.redis_server import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

TOKEN = "gateway-token-1"
TASK_TIMEOUT_S = 3
NOTICE_AFTER_S = 2
WORK_S = 7  #: more than the longest silence that is allowed, twice
WORD = "Still working on it, one moment please."
TOO_SLOW = "Sorry, this message could not be answered. The model took too long"


@dataclass(frozen=True)
class Agent:
    """The stand-in's other side."""

    url: str
    http: aiohttp.ClientSession

    async def work(self, **habit: Any) -> None:
        """How it works from now on."""
        async with self.http.post(f"{self.url}/control/habit", json=habit) as response:
            assert response.status == 200, await response.text()

    async def runs(self, text: str) -> list[dict[str, Any]]:
        """What it was asked for the question `text`, in order."""
        async with self.http.get(f"{self.url}/control/runs") as response:
            return [run for run in await response.json() if run["text"] == text]


@pytest.fixture(scope="module")
def agent_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An agent server on a port of its own."""
    port = free_port()
    command = [sys.executable, "-m", "tests.simulator.agent", "--port", str(port)]
    directory: Path = tmp_path_factory.mktemp("agent")
    environment = {"PYTHONPATH": str(ROOT)}
    process = Process(
        "agent", [*command, "--token", TOKEN], directory=directory, environment=environment
    )
    process.start()
    yield f"http://127.0.0.1:{port}"
    process.end()


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory, agent_url: str) -> Iterator[Stack]:
    """A gateway set up as docs/agent-server.md says; no failed message is tried again."""
    settings = {
        "CLAWDBOT_ENDPOINT": f"{agent_url}/v1",
        "CLAWDBOT_AK_SECRET": TOKEN,
        "CLAWDBOT_MODEL__NAME": "openclaw/main",
        "CLAWDBOT_TASK_TIMEOUT_S": str(TASK_TIMEOUT_S),
        "CLAWDBOT_FEISHU__NOTICE_AFTER_S": str(NOTICE_AFTER_S),
        "CLAWDBOT_RETRY__PROCESS_LIMIT_S": "0",
    }
    with Stack(tmp_path_factory.mktemp("patient") / "run", settings=settings) as stack:
        yield stack


@pytest.fixture
async def agent(agent_url: str) -> AsyncIterator[Agent]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as http:
        agent = Agent(agent_url, http)

        async def listens() -> bool:
            try:
                await agent.work(work_s=0, sign="comments", interval_s=0.5)
            except aiohttp.ClientError:
                return False
            return True

        await eventually(listens, 20, "the agent server listens")
        yield agent


@pytest.fixture
async def talk(patient: Stack, agent: Agent) -> AsyncIterator[Talk]:
    async with patient.client() as client:
        await client.control("reset")
        yield Talk(patient, client)


@pytest.mark.parametrize("sign", ["comments", "reasoning"])
async def test_signs_of_life_keep_an_agent_at_work_and_the_person_is_told_once(
    talk: Talk, agent: Agent, sign: str
) -> None:
    question = f"work hard, with {sign}"
    await agent.work(work_s=WORK_S, sign=sign)

    word, answer = await talk.ask("feishu", question)

    assert word == WORD
    assert answer.startswith(f"You said: {question}\n")
    assert [run["outcome"] for run in await agent.runs(question)] == ["done"]


async def test_an_agent_without_a_sign_of_life_is_given_up(talk: Talk, agent: Agent) -> None:
    await agent.work(work_s=60, sign="none")

    word, failure = await talk.ask("feishu", "say nothing")

    assert word == WORD
    assert failure.startswith(TOO_SLOW)
    assert [run["outcome"] for run in await agent.runs("say nothing")] == ["abandoned"]


async def test_an_agent_is_asked_once_in_a_new_session_with_the_history(
    talk: Talk, agent: Agent
) -> None:
    chat = "oc_agent_memory"
    for text in ("the first thing", "the second thing"):
        await talk.say("feishu", text, chat=chat)
        await talk.at_rest()

    (first,), (second,) = await agent.runs("the first thing"), await agent.runs("the second thing")
    assert "I remember 1 earlier turn" in (await talk.texts(chat))[1]
    assert (first["messages"], second["messages"]) == (1, 3)
    assert first["session"] != second["session"]
