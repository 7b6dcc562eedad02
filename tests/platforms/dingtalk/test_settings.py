"""Settings of a DingTalk bot: what is refused, and what the refusal says."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from shared.platforms.dingtalk.settings import DingTalkSettings
from tests.platforms.dingtalk.samples import OPTIONS


def _settings(**changes: Any) -> DingTalkSettings:
    return DingTalkSettings.model_validate({**OPTIONS, **changes})


def test_the_bot_is_its_app_key_and_seals_with_its_app_secrets() -> None:
    settings = _settings(app_secret='["new", "old"]')
    assert settings.platform == "dingtalk"
    assert settings.bot_id == "dingtest1"
    assert settings.sealing_secrets == ("new", "old")


@pytest.mark.parametrize("given", [{}, {"robot_code": ""}, {"robot_code": "  "}])
def test_an_app_robots_code_is_its_app_key(given: dict[str, str]) -> None:
    assert _settings(**given, app_key=" dingtest1 ").robot_code == "dingtest1"
    assert _settings(robot_code="dingother").robot_code == "dingother"


@pytest.mark.parametrize("given", [["a", "b"], '["a", "b"]', "a, b", ("a", "b", "")])
def test_company_ids_may_be_a_list_json_or_names_with_commas(given: Any) -> None:
    assert _settings(corp_ids=given).corp_ids == ("a", "b")
    assert _settings(corp_ids="").corp_ids == ()


def test_the_webhook_origins_are_the_official_ones_by_default() -> None:
    assert _settings().webhook_origins == {
        "https://oapi.dingtalk.com",
        "https://api.dingtalk.com",
    }


def test_only_loopback_hosts_may_be_plain_http() -> None:
    settings = _settings(webhook_hosts="127.0.0.1:9001,gateway.example")
    assert settings.webhook_origins == {
        "https://127.0.0.1:9001",
        "http://127.0.0.1:9001",
        "https://gateway.example",
    }


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"app_secret": " "}, "app_secret is missing"),
        ({"app_secret": ["", " "]}, "app_secret is missing"),
        ({"app_key": "a{b}"}, "1 to 64 letters"),
        ({"app_key": None}, "app_key"),
        ({"api_base": "http://api.dingtalk.com"}, "https://"),
        ({"oapi_base": "http://127.0.0.1.evil.example"}, "https://"),
        ({"webhook_hosts": ["https://oapi.dingtalk.com"]}, "host:port"),
        ({"webhook_hosts": ["oapi.dingtalk.com/x"]}, "host:port"),
        ({"webhook_hosts": ["u@oapi.dingtalk.com"]}, "host:port"),
        ({"corp_ids": 5}, "corp_ids"),
    ],
)
def test_what_can_not_work_is_refused_in_words(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words) as caught:
        _settings(**changes)
    assert "test-app-secret-1" not in str(caught.value)
