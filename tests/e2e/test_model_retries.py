"""What an endpoint says of another try (platforms.md, 5.1), by status or header, is done."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from tests.e2e.model_cases import ANSWER, assert_failed
from tests.e2e.talk import Talk

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

#: Longer than the shared stack's patience (30 s), and less than what is given up at once.
LONG = "100"


@dataclass(frozen=True)
class Case:
    """One refusal; then the endpoint is well again.

    reads: `whole`, or why there is no answer. wait_s: the next try comes no sooner.
    """

    name: str
    reads: str
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    wait_s: float = 0.0

    @property
    def calls(self) -> int:
        return 2 if self.reads == "whole" else 1


CASES = [
    Case("409", "whole", 409),
    Case("Retry-After", "whole", 429, {"Retry-After": "1"}, wait_s=0.9),
    Case("Retry-After over 120 s", "busy", 429, {"Retry-After": "121"}),
    Case("Retry-After over 120 s, unwell", "away", 500, {"Retry-After": "121"}),
    Case("retry-after-ms is believed", "whole", 429, {"Retry-After": LONG, "retry-after-ms": "50"}),
    Case("also when it is longer", "busy", 429, {"Retry-After": "0", "retry-after-ms": "121000"}),
    Case("x-should-retry true", "whole", 400, {"x-should-retry": "true"}),
    Case("x-should-retry false", "away", 500, {"x-should-retry": "false"}),
    Case("x-should-retry false, busy", "busy", 429, {"x-should-retry": "false"}),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_what_the_endpoint_says_of_another_try_is_done(case: Case, talk: Talk) -> None:
    text = f"再试一次吗：{case.name}？"
    fault = {"status": case.status, "headers": case.headers, "match": text}
    await talk.fault("model", "errcode", **fault)

    (read,) = await talk.ask("feishu", text)

    calls = await talk.model_calls(text)
    assert len(calls) == case.calls
    assert calls[-1]["at"] - calls[0]["at"] >= case.wait_s
    if case.reads == "whole":
        assert read == ANSWER.format(text=text)
    else:
        assert_failed(talk.stack, read, case.reads)
