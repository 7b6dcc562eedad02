"""What is asked of Redis for a quota, and when nothing is. Counting: `integration/`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from shared.config import load_settings
from shared.config.live import Live
from shared.messages import Event
from workers.claim import Claim
from workers.quotas import Quotas, Refusal
from workers.store import Lanes

MESSAGES = [{"role": "user", "content": "x" * 40}]
EVENT = Event(
    "feishu", "cli_1", "om_1", "ev_1", "oc_1", "hi", "ou_1", tenant_id="t1", is_group=True
)
NEW_YEAR_MS = 1_767_225_600_000  #: 2026, in UTC


class Asked:
    """Stands where `Lanes` does, writes down what it is asked, and says what it was told to."""

    def __init__(self, *answer: int) -> None:
        self.limits: dict[str, Any] = {}
        self.more: dict[str, Any] = {}
        self._answer = list(answer)

    def admit(self, claim: Claim, limits: dict[str, Any], **more: Any) -> list[int]:
        self.limits, self.more = limits, more
        return self._answer


def a_claim(**record: str) -> Claim:
    lane = "feishu:cli_1:conv:oc_1:inbox"
    return Claim("c1", lane, "t1", 1, NEW_YEAR_MS, NEW_YEAR_MS, None, False, 0.0, record, ())


def refusal(asked: Asked, claim: Claim | None = None, **quotas: str) -> Refusal | None:
    environ = {f"CLAWDBOT_{name}": value for name, value in quotas.items()}
    settings = load_settings(environ, cwd=Path(__file__).parent)
    quota = Quotas(Live(settings), cast(Lanes, asked))
    return quota.refusal(claim or a_claim(), EVENT, MESSAGES)


def test_without_quotas_nothing_is_asked() -> None:
    asked = Asked()

    assert refusal(asked) is None
    assert asked.more == {}


def test_only_who_has_a_limit_is_asked_for() -> None:
    asked = Asked()
    refusal(asked, QUOTAS__GROUP__REQUESTS_PER_DAY="5", QUOTAS__TENANT__TOKENS_PER_MINUTE="9")

    assert asked.limits == {
        "feishu:cli_1:quota:group:oc_1": (0, 5, 0, 0),
        "clawdbot:quota:feishu:t1": (0, 0, 9, 0),
    }
    assert asked.more == {"tokens": 10, "offset_s": 28_800, "is_exempt": False}


def test_a_prompt_is_not_estimated_where_no_tokens_are_limited() -> None:
    asked = Asked()
    refusal(asked, QUOTAS__USER__REQUESTS_PER_DAY="5", TIMEZONE="UTC")

    assert asked.more == {"tokens": 0, "offset_s": 0, "is_exempt": False}


def test_the_clocks_are_those_of_the_time_it_was_accepted_at() -> None:
    asked, summer_ms = Asked(), NEW_YEAR_MS - 180 * 86_400_000
    claim = a_claim(accepted=str(summer_ms))
    refusal(asked, claim, QUOTAS__USER__REQUESTS_PER_DAY="5", TIMEZONE="Europe/Berlin")

    assert asked.more["offset_s"] == 7200


@pytest.mark.parametrize("name", ["ou_1", "oc_1", "t1"])
def test_an_exempt_consumer_of_any_kind_exempts_the_message(name: str) -> None:
    asked = Asked()
    refusal(asked, QUOTAS__USER__REQUESTS_PER_DAY="5", QUOTAS__EXEMPT=f'["{name}"]')

    assert asked.more["is_exempt"]


def test_a_refusal_names_consumer_and_limit() -> None:
    told = refusal(
        Asked(2, 3, 17),
        QUOTAS__USER__REQUESTS_PER_DAY="5",
        QUOTAS__BOT__TOKENS_PER_MINUTE="9",
    )

    assert told == Refusal("bot", "tokens_per_minute", free_s=17)
    assert str(told) == "quota of bot: tokens_per_minute"
