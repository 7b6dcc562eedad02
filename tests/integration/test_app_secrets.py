"""A rotation of an app's secret: replies go out before its change in the console, and after it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable

import pytest

from tests.integration.gateway import CREDENTIALS
from tests.integration.stages import Stack

#: The setting, and what the platform says to a wrong secret.
APPS = {
    "dingtalk": ("DINGTALK__APP_SECRET", "invalidClientIdOrSecret"),
    "feishu": ("FEISHU__APP_SECRET", 10014),
}
OTHER = "the-other-secret"


@pytest.mark.parametrize("platform", APPS)
def test_a_secret_that_is_not_in_force_yet_gives_way_to_the_next(
    platform: str, make_stack: Callable[..., Stack], caplog: pytest.LogCaptureFixture
) -> None:
    name, code = APPS[platform]
    known = CREDENTIALS[f"CLAWDBOT_{name}"]
    stack = make_stack(**{name: json.dumps([OTHER, known])})
    fetches = stack.fault(f"{platform}.token", "slow", times=0)
    caplog.set_level(logging.DEBUG)

    for text in ("one", "two"):
        event = stack.answer(platform, text=text, webhook_expires_in_s=-1)
        stack.push(event)
        assert stack.is_answered(event)

    assert fetches.hits == 2, "one refused, one taken; the token is kept for the second message"
    told = [vars(r)["metadata"] for r in caplog.records if r.getMessage() == "secret.refused"]
    assert told == [{"bot": "default", "position": 1, "code": f"{platform}:{code}"}]
    assert not [r for r in caplog.records if known in str(vars(r)) or OTHER in str(vars(r))]


@pytest.mark.parametrize("platform", APPS)
def test_after_the_change_in_the_console_the_first_is_taken(
    platform: str, make_stack: Callable[..., Stack]
) -> None:
    name, _ = APPS[platform]
    stack = make_stack(**{name: json.dumps([CREDENTIALS[f"CLAWDBOT_{name}"], OTHER])})
    fetches = stack.fault(f"{platform}.token", "slow", times=0)
    event = stack.answer(platform, webhook_expires_in_s=-1)

    stack.push(event)

    assert stack.is_answered(event)
    assert fetches.hits == 1


@pytest.mark.parametrize("platform", APPS)
def test_when_none_is_taken_the_letter_names_the_platforms_refusal(
    platform: str, make_stack: Callable[..., Stack]
) -> None:
    name, code = APPS[platform]
    known = CREDENTIALS[f"CLAWDBOT_{name}"]
    stack = make_stack(**{name: json.dumps([known, OTHER])})
    fetches = stack.fault(f"{platform}.token", "errcode", code=code, times=0)
    event = stack.answer(platform, webhook_expires_in_s=-1)

    stack.push(event)

    assert fetches.hits == 2
    reason = stack.record(event)["dead_reason"]
    assert reason.startswith(f"{platform}:{code}")
    assert not [secret for secret in (known, OTHER) if secret in reason]


@pytest.mark.parametrize("platform", APPS)
def test_a_platform_that_is_away_is_not_asked_with_another(
    platform: str, make_stack: Callable[..., Stack]
) -> None:
    name, _ = APPS[platform]
    stack = make_stack(**{name: json.dumps([CREDENTIALS[f"CLAWDBOT_{name}"], OTHER])})
    fetches = stack.fault(f"{platform}.token", "status", status=503, times=0)
    event = stack.answer(platform, webhook_expires_in_s=-1)

    stack.push(event)

    assert fetches.hits == 1
    assert stack.state(stack.outbox(event))["tries"] == "1"
