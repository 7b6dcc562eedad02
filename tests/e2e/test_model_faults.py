"""Every fault of a model's endpoint, as the person in the chat sees it."""

from __future__ import annotations

import re
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
    # Streams that are as good as any.
    spoken("torn into CRLF, comments, lines, half characters", "ragged", "whole"),
    spoken("reasoning beside the answer", "think", "whole", **SAYS),
    spoken("a finish_reason and no [DONE]", "unfinished", "whole", after_tokens=5),
    spoken("a tool is called after the text", "finish", "whole", after_tokens=4, **TOOL),
    # Streams that stop: what was said is shown, marked as cut.
    spoken("length", "finish", "cut", after_tokens=2),
    spoken("filtered after some text", "finish", "cut", after_tokens=2, finish_reason=FILTERED),
    spoken("cut connection after some text", "cut", "cut", after_tokens=2),
    spoken("neither finish_reason nor [DONE]", "unfinished", "cut", after_tokens=2),
    spoken("stalled after some text", "hang", "cut", after_tokens=2),
    spoken("error event after some text", "error_event", "cut", after_tokens=2, **SAYS),
    # No text: why.
    spoken("filtered, content null", "finish", "refused", finish_reason=FILTERED),
    spoken("error event", "error_event", "away", code="server_error", **SAYS),
    spoken("error event: too many", "error_event", "busy", code="rate_limit_exceeded", **SAYS),
    spoken("an empty answer", "empty", "no answer"),
    spoken("a tool is called without a word", "finish", "no answer", **TOOL),
    spoken("cut connection before any text", "cut", "away"),
    spoken("a stream without events", "unfinished", "setup"),
    spoken("hang up", "drop", "away"),
    spoken("silence", "hang", "too slow"),
    spoken("drip", "drip", "too slow", bytes_per_s=2),
    under_200("an HTML page", "setup", PAGE, **{"Content-Type": "text/html"}),
    under_200("an empty body", "setup", ""),
    under_200("Qianfan: requests a minute", "busy", qianfan("rpm_rate_limit_exceeded", "code")),
    under_200("Qianfan: tokens a minute", "busy", qianfan("tpm_rate_limit_exceeded", "code")),
    under_200("Qianfan: requests a minute, a number", "busy", qianfan(336501)),
    under_200("Qianfan: tokens a minute, a number", "busy", qianfan(336502)),
    under_200("Qianfan: QPS", "busy", qianfan(18)),
    under_200("Qianfan: overloaded", "busy", qianfan(336100)),
    under_200("Qianfan: anything else", "away", qianfan(336003)),
    refusal(400, "setup", "invalid_messages"),
    refusal(400, "too long", "context_length_exceeded"),
    refusal(400, "refused", FILTERED),
    refusal(404, "setup", "model_not_found"),
    refusal(408, "too slow"),
    refusal(409, "away"),
    refusal(429, "busy", "rate_limit_exceeded", retry_after="7"),
    refusal(429, "busy", "rate_limit_exceeded", retry_after="121"),
    refusal(429, "busy", "rate_limit_exceeded", retry_after_ms="700"),
    refusal(429, "setup", "insufficient_quota"),
    refusal(500, "away"),
    refusal(502, "away"),
    refusal(503, "busy"),
    refusal(503, "busy", retry_after="121"),
    refusal(502, "away", retry_after="121"),
    refusal(500, "away", x_should_retry="false"),
    refusal(400, "away", x_should_retry="true"),
    refusal(504, "too slow"),
    refusal(403, "setup", "access_denied"),
    refusal(401, "setup", "invalid_api_key"),
]


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("impatient") / "run", settings=IMPATIENT) as stack:
        yield stack


@pytest.fixture
async def talk(impatient: Stack) -> AsyncIterator[Talk]:
    async with impatient.client() as client:
        await client.control("reset")
        await client.control("model", {"latency_s": 0, "tokens": 4, "token_interval_s": 0})
        yield Talk(impatient, client)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_what_a_person_reads(case: Case, talk: Talk) -> None:
    await check(case, talk)


async def test_the_reason_is_told_in_english_to_who_writes_english(talk: Talk) -> None:
    await talk.fault("model", "errcode", status=500, message=VENDOR_WORDS, match="why not")

    (read,) = await talk.ask("dingtalk", "why not?")

    assert re.fullmatch(
        r"Sorry, this message could not be answered. The model is not available at the moment; "
        r"please try again later. \(ref \w+\)",
        read,
    )


async def test_no_word_of_an_endpoint_is_kept(talk: Talk, impatient: Stack) -> None:
    await talk.fault("model", "errcode", status=400, message=VENDOR_WORDS)
    await talk.fault("model", "error_event", message=VENDOR_WORDS)
    for text in ("first", "second"):
        await talk.ask("feishu", text)

    kept = impatient.clawdbot("dead", "list", "--json").stdout
    assert '"text": "second"' in kept
    assert VENDOR_WORDS not in kept
    assert VENDOR_WORDS not in impatient.log_text()
