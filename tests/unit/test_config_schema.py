"""`clawdbot config schema`: what it takes, `load_settings` takes, and the reverse."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from shared.config import load_settings
from shared.config.known import known_settings
from shared.config.schema import yaml_schema
from shared.errors import ConfigError
from tests.unit.test_config import GUIDE

SCHEMA = yaml_schema()
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)
BOT = "app_id: cli_1, app_secret: s, encrypt_key: e"


class EditorLoader(yaml.SafeLoader):
    """YAML 1.2, as editors read it: `true` and `false` alone are truth values, dates are text."""


EditorLoader.yaml_implicit_resolvers = {
    first: [(tag, word) for tag, word in resolvers if not tag.endswith((":bool", ":timestamp"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
EditorLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(true|false)$"), "tf")


def is_valid(text: str) -> bool:
    return bool(VALIDATOR.is_valid(yaml.load(text, EditorLoader)))


def loads(folder: Path, text: str) -> bool:
    (folder / "c.yaml").write_text(text, encoding="utf-8")
    environ = {"CLAWDBOT_CONFIG": "c.yaml", "PORT": "8080", "KEY": "k"}
    try:
        load_settings(environ, cwd=folder)
    except ConfigError:
        return False
    return True


def test_it_is_a_schema() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "port: 18789",
        "port: '18789'",
        "port: ${ENV:PORT}",
        "port: ${ENV:NONE:-1}",
        "port:",
        "service:",
        "service: {auth: {akId: a, akSecret: [new, old], endpoint: 'https://m/v1'}}",
        "service: {auth: {ak_secret: 0123}}",
        "asyncProcessing: {threadPoolSize: 3, queue_capacity: 5}",
        "model: {stream: true, temperature: 0.5, max_tokens: 10, systemPrompt: 'x\ny'}",
        "model: {stream: yes, temperature: ~}",
        "model: {stream: 'off'}",
        "task_timeout_s: 1e1",
        "log: {level: debug, content: False, dir: /var/log}",
        "log: {level: WARNING}",
        "quotas: {exempt: [ou_1, 5], user: {requestsPerDay: 5}}",
        "quotas: {exempt: 'ou_1,ou_2'}",
        f"feishu: {{{BOT}, event_types: [im.message.receive_v1], notice_after_s: 3}}",
        "feishu: {platform: feishu, app_id: c, app_secret: s, verify_token: v}",
        "feishu: {app_id: c, app_secret: s, verifyToken: v, uncertain_send: hold}",
        "bots: {sales: {platform: feishu, " + BOT + "}}",
        "bots: {sales: {platform: dingtalk, app_key: d, app_secret: [a, b]}}",
        "models: {backup: {endpoint: 'https://m/v1', ak_secret: '${ENV:KEY}'}}",
    ],
)
def test_what_loads_is_valid(tmp_path: Path, text: str) -> None:
    assert loads(tmp_path, text)
    assert is_valid(text)


@pytest.mark.parametrize(
    "text",
    [
        "- a",
        "prot: 1",
        "port: 0",
        "port: 65536",
        "port: many",
        "port: [1]",
        "port: {x: 1}",
        "port: true",
        "port: 1.5",
        "service: 5",
        "service: {auth: {akIdd: a}}",
        "service: {auth: {akSecret: {a: b}}}",
        "service: {auth: {akSecret: [[a]]}}",
        "model: {stream: perhaps}",
        "model: {temperature: 3}",
        "model: {auth: digest}",
        "log: {level: LOUD}",
        "master_key: k",
        "default_bots: {feishu: {app_id: a}}",
        "quotas: {user: {requests_per_day: -1}}",
        f"feishu: {{{BOT}, encryptkey: e}}",
        f"feishu: {{{BOT}, platform: dingtalk}}",
        f"feishu: {{{BOT}, uncertain_send: perhaps}}",
        "bots: {Sales: {platform: feishu, " + BOT + "}}",
        "bots: {sales: {platform: wecom}}",
        "bots: {sales: {platform: dingtalk, " + BOT + "}}",
        "bots: {sales: 5}",
        "models: {backup: {endpoint: 'https://m/v1', chain: [a]}}",
    ],
)
def test_what_is_refused_is_invalid(tmp_path: Path, text: str) -> None:
    assert not loads(tmp_path, text)
    assert not is_valid(text)


def test_the_guides_yaml_is_valid() -> None:
    assert is_valid(GUIDE)


def test_every_setting_of_yaml_is_described_with_its_name_in_the_environment() -> None:
    for known in known_settings():
        found: Any = SCHEMA
        for part in known.path if known.yaml else ():
            found = found["properties"][part]
        if known.yaml:
            assert known.help in found["description"]
            assert f"({known.env})" in found["description"]
            assert f"[{known.unit}]" in found["description"] or not known.unit


def test_defaults_are_those_of_the_settings_and_no_secret_has_one() -> None:
    assert SCHEMA["properties"]["port"]["default"] == 18789
    assert SCHEMA["properties"]["log"]["properties"]["level"]["default"] == "INFO"
    assert "default" not in SCHEMA["properties"]["redis"]["properties"]["url"]
