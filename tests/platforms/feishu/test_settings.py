"""Settings of a Feishu bot: what is refused, and what the refusal says."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from shared.platforms.feishu.settings import FeishuSettings
from tests.platforms.feishu.samples import OPTIONS


def _settings(**changes: Any) -> FeishuSettings:
    return FeishuSettings.model_validate({**OPTIONS, **changes})


def test_the_bot_is_its_app_id_and_seals_with_its_app_secrets() -> None:
    settings = _settings(app_secret='["new", "old"]')
    assert settings.platform == "feishu"
    assert settings.bot_id == "cli_a0test"
    assert settings.sealing_secrets == ("new", "old")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encrypt_key": "", "verification_token": " "}, "encrypt_key and verification_token"),
        ({"app_secret": ""}, "app_secret is missing"),
        ({"app_secret": []}, "app_secret is missing"),
        ({"app_id": "a:b"}, "1 to 64 letters"),
        ({"app_id": "a" * 65}, "1 to 64 letters"),
        ({"app_id": ""}, "Field required"),
        ({"api_base": "http://open.feishu.cn"}, "https://"),
        ({"api_base": "open.feishu.cn"}, "https://"),
        ({"api_base": "https://u:p@open.feishu.cn"}, "without user"),
        ({"api_base": "https://open.feishu.cn?x=1"}, "query"),
        ({"encrypt_key": "[1"}, "JSON list"),
        ({"encrypt_kye": "typo"}, "Extra inputs"),
        ({"platform": "dingtalk"}, "feishu"),
        ({"signature_scheme": "none"}, "guide"),
    ],
)
def test_what_can_not_work_is_refused_in_words(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words) as caught:
        _settings(**changes)
    assert "test-app-secret-1" not in str(caught.value)


def test_one_way_to_verify_is_enough() -> None:
    assert _settings(encrypt_key="").encrypt_key == ()
    assert _settings(verification_token="").verification_token == ()


def test_the_guides_name_of_the_token_is_understood() -> None:
    options = {k: v for k, v in OPTIONS.items() if k != "verification_token"}
    settings = FeishuSettings.model_validate({**options, "verify_token": "v"})
    assert settings.verification_token[0].get_secret_value() == "v"


def test_a_plain_string_is_one_secret_commas_included() -> None:
    assert _settings(app_secret="a,b").sealing_secrets == ("a,b",)
    assert _settings(app_secret=["a", "", "b"]).sealing_secrets == ("a", "b")


@pytest.mark.parametrize(
    "base",
    ["https://open.larksuite.com", "http://127.0.0.1:8081", "http://localhost", "http://[::1]:1"],
)
def test_https_or_this_machine_itself_may_be_the_api(base: str) -> None:
    assert _settings(api_base=f"{base}/").api_base == base


@pytest.mark.parametrize(
    ("types", "told"),
    [
        ("", []),
        ("im.message.receive_v1", []),
        (["im.message.received_v1"], ["the platform calls it im.message.receive_v1"]),
        ("im.chat.disbanded_v1", ["im.chat.disbanded_v1, which is acknowledged", "no message com"]),
        ("im.message.receive_v1, im.chat.updated_v1", ["names im.chat.updated_v1, which is ack"]),
    ],
)
def test_event_types_that_are_not_answered_are_warned_of(types: Any, told: list[str]) -> None:
    warnings = _settings(event_types=types).warnings()
    assert len(warnings) == len(told)
    for warning, words in zip(warnings, told, strict=True):
        assert words in warning
