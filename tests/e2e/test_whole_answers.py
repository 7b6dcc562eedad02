"""A model that is not streamed (`stream: false`): its answer comes in one body, or why not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.e2e.model_cases import (
    FILTERED,
    IMPATIENT,
    PAGE,
    SAYS,
    TOOL,
    VENDOR_WORDS,
    Case,
    check,
    qianfan,
    refusal,
    spoken,
    under_200,
)
from tests.e2e.stack import Stack
from tests.e2e.talk import Talk

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

CASES = [
    spoken("JSON in lines, cut anywhere", "ragged", "whole"),
    spoken("reasoning beside the answer", "think", "whole", **SAYS),
    spoken("a little later", "slow", "whole", delay_s=0.3),
    spoken("a tool is called after the text", "finish", "whole", after_tokens=4, **TOOL),
    spoken("length", "finish", "cut", after_tokens=2),
    spoken("filtered after some text", "finish", "cut", after_tokens=2, finish_reason=FILTERED),
    spoken("filtered, content null", "finish", "refused", finish_reason=FILTERED),
    spoken("a tool is called without a word", "finish", "no answer", **TOOL),
    spoken("an empty answer", "empty", "no answer"),
    spoken("an error in its place", "error_event", "away", code="server_error", **SAYS),
    spoken("too many, in its place", "error_event", "busy", code="rate_limit_exceeded", **SAYS),
    spoken("a cut body", "cut", "away"),
    spoken("half a body that ends well", "unfinished", "setup"),
    spoken("no answer to what was done", "lose_response", "away"),
    spoken("hang up", "drop", "away"),
    spoken("silence", "hang", "too slow", after_tokens=2),
    spoken("drip", "drip", "too slow", bytes_per_s=2),
    under_200("an HTML page", "setup", PAGE, **{"Content-Type": "text/html"}),
    under_200("an empty body", "setup", ""),
    under_200("Qianfan: requests a minute", "busy", qianfan("rpm_rate_limit_exceeded", "code")),
    under_200("Qianfan: tokens a minute, a number", "busy", qianfan(336502)),
    under_200("Qianfan: anything else", "away", qianfan(336003)),
    refusal(400, "too long", "context_length_exceeded"),
    refusal(429, "busy", "rate_limit_exceeded", retry_after="7"),
    refusal(503, "busy"),
    refusal(401, "setup", "invalid_api_key"),
]


@pytest.fixture(scope="module")
def unstreamed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    settings = {**IMPATIENT, "CLAWDBOT_MODEL__STREAM": "false"}
    with Stack(tmp_path_factory.mktemp("unstreamed") / "run", settings=settings) as stack:
        yield stack


@pytest.fixture
async def talk(unstreamed: Stack) -> AsyncIterator[Talk]:
    async with unstreamed.client() as client:
        await client.control("reset")
        await client.control("model", {"latency_s": 0, "tokens": 4, "token_interval_s": 0})
        yield Talk(unstreamed, client)


@pytest.mark.parametrize("platform", ["dingtalk", "feishu"])
async def test_an_answer_arrives(platform: str, talk: Talk) -> None:
    (read,) = await talk.ask(platform, "how are you?")

    assert read == "You said: how are you?\n(The demo model is answering; this is our first turn.)"
    (call,) = await talk.model_calls("how are you?")
    assert not call["streamed"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_what_a_person_reads(case: Case, talk: Talk) -> None:
    await check(case, talk)


async def test_no_word_of_an_endpoint_is_kept(talk: Talk, unstreamed: Stack) -> None:
    await talk.fault("model", "error_event", message=VENDOR_WORDS)
    await talk.fault("model", "status", status=200, body=qianfan(336003))
    for text in ("first", "second"):
        await talk.ask("feishu", text)

    kept = unstreamed.clawdbot("dead", "list", "--json").stdout
    assert '"text": "second"' in kept
    assert VENDOR_WORDS not in kept
    assert VENDOR_WORDS not in unstreamed.log_text()
