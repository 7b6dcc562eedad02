"""The configuration centre: what changes live, what waits, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from shared.config import Settings
from shared.config.center import Center, Taken, redis_layer
from shared.config.known import known_settings
from shared.config.live import LIVE, LIVE_OF_BOTS, Live, is_live
from shared.config.sources import Layer
from shared.config.written import read_written
from shared.platforms.settings import BotSettings

ENVIRON = {
    "CLAWDBOT_ENDPOINT": "https://first.example/v1",
    "CLAWDBOT_AK_SECRET": "sk-hush",
    "CLAWDBOT_MODELS__BACKUP__ENDPOINT": "https://second.example/v1",
    "CLAWDBOT_FEISHU__APP_ID": "cli_1",
    "CLAWDBOT_FEISHU__APP_SECRET": "s",
    "CLAWDBOT_FEISHU__ENCRYPT_KEY": "e",
}


@pytest.fixture
def center(tmp_path: Path) -> Center:
    """Of a running process."""
    made = Center(read_written(ENVIRON, cwd=tmp_path))
    made.begin()
    return made


def given(values: dict[str, str]) -> Layer:
    problems: list[str] = []
    layer = redis_layer(values, problems)
    assert problems == []
    return layer


def take(center: Center, **values: str) -> Taken:
    """As from Redis; `__` for a dot."""
    return center.take("redis", given({k.replace("__", "."): v for k, v in values.items()}))


def test_every_entry_of_the_table_is_a_setting() -> None:
    paths = [known.path for known in known_settings()]

    assert [each for each in LIVE if not any(p[: len(each)] == each for p in paths)] == []
    assert set(LIVE_OF_BOTS) <= BotSettings.model_fields.keys()


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("model.system_prompt", "Be brief.", lambda s: s.model.system_prompt),
        ("model.chain", "backup,default", lambda s: ",".join(s.model.chain)),
        ("quotas.exempt", "ou_1", lambda s: ",".join(s.quotas.exempt)),
        ("quotas.group.tokens_per_day", "7", lambda s: str(s.quotas.group.tokens_per_day)),
        ("security.qps", "9", lambda s: str(s.security.qps)),
        ("log.level", "DEBUG", lambda s: s.log.level),
        ("feishu.system_prompt", "Be kind.", lambda s: s.feishu.system_prompt),
        ("feishu.modelChain", "backup", lambda s: ",".join(s.feishu.model_chain)),
    ],
)
def test_what_is_live_is_in_force_at_once_and_gone_with_its_value(
    center: Center, name: str, value: str, read: Any
) -> None:
    before = center.live.settings

    taken = center.take("redis", given({name: value}))
    assert read(center.live.settings) == value
    assert (len(taken.changed), taken.waiting, taken.problems) == (1, (), ())

    center.take("redis", {})
    assert center.live.settings == before


def test_what_is_not_live_waits_for_a_restart_and_is_in_force_after_it(tmp_path: Path) -> None:
    running = Center(read_written(ENVIRON, cwd=tmp_path))
    running.begin()
    values = given({"port": "1", "feishu.notice_after_s": "3", "security.qps": "9"})

    taken = running.take("redis", values)
    started = Center(read_written(ENVIRON, cwd=tmp_path))
    started.take("redis", values)

    assert taken.waiting == ("feishu.notice_after_s", "port")
    assert taken.changed == ("security.qps",)
    assert running.live.settings.port == 18789
    assert started.live.settings.port == 1
    assert started.live.settings.feishu.notice_after_s == 3


def test_a_value_that_changes_nothing_waits_for_nothing(center: Center) -> None:
    assert take(center, port="18789") == Taken("redis")


def test_what_can_not_be_used_leaves_everything_as_it_was(center: Center) -> None:
    take(center, security__qps="9")
    held = center.live.settings

    taken = take(center, security__qps="10", model__chain="nobody", log__level="LOUD")

    assert center.live.settings is held
    assert [problem.split(":")[0] for problem in taken.problems] == ["log.level (Redis)"]
    taken = take(center, model__chain="nobody")
    assert taken.problems[0].startswith("model.chain (Redis): there is no model nobody")


def test_one_place_that_can_not_be_used_does_not_hold_up_the_other(center: Center) -> None:
    assert center.take("file", {}, ["c.yaml is not YAML"]).problems
    assert take(center, security__qps="9").changed == ("security.qps",)


def test_redis_is_stronger_than_the_file_and_both_than_all_else(tmp_path: Path) -> None:
    environ = {**ENVIRON, "CLAWDBOT_SECURITY__QPS": "1", "LOG_LEVEL": "ERROR"}
    center = Center(read_written(environ, cwd=tmp_path))

    take(center, security__qps="3")
    center.take("file", given({"security.qps": "2", "log.level": "DEBUG"}))

    assert center.live.settings.security.qps == 3
    assert center.live.settings.log.level == "DEBUG"


def test_an_empty_text_empties_a_setting(tmp_path: Path) -> None:
    elsewhere = {
        "CLAWDBOT_FEISHU__SYSTEM_PROMPT": "old",
        "CLAWDBOT_MODEL__CHAIN": "backup",
        "CLAWDBOT_MODEL__TEMPERATURE": "1",
        "CLAWDBOT_MODELS__BACKUP__MAX_TOKENS": "7",
        "CLAWDBOT_PUBLIC_URL": "https://bot.example",
        "CLAWDBOT_LOG_DIR": "logs",
    }
    center = Center(read_written({**ENVIRON, **elsewhere}, cwd=tmp_path))

    names = ("feishu.system_prompt", "model.chain", "model.temperature", "models.backup.max_tokens")
    taken = center.take("redis", given(dict.fromkeys((*names, "public_url", "log.dir"), "")))

    settings = center.live.settings
    assert taken.problems == ()
    assert (settings.feishu.system_prompt, settings.model.chain) == ("", ())
    assert settings.model.temperature is None
    assert settings.models["backup"].max_tokens is None
    assert settings.public_url is None
    assert settings.log.dir is None


def test_what_can_not_be_empty_is_refused(center: Center) -> None:
    assert take(center, port="").problems == ("port (Redis): must be a whole number",)


def test_a_chain_with_a_model_that_is_not_running_yet_waits_with_it(center: Center) -> None:
    taken = take(
        center,
        models__new__endpoint="https://third.example/v1",
        model__chain="new,default",
        feishu__model_chain="new",
        security__qps="9",
    )

    assert {"model.chain", "feishu.model_chain", "models.new.endpoint"} <= set(taken.waiting)
    assert center.live.settings.model.chain == ()
    assert center.live.settings.security.qps == 9


def test_a_bot_that_is_not_running_yet_waits(center: Center) -> None:
    bot = {"platform": "feishu", "app_id": "cli_2", "system_prompt": "x"}
    secrets = {"app_secret": "s", "encrypt_key": "e"}
    layer = given({f"bots.new.{name}": value for name, value in bot.items()})
    other = given({"bots.new.app_id": "cli_2"})
    for name, value in secrets.items():
        path = ("bots", "new", name)
        layer[path] = dataclasses.replace(next(iter(other.values())), value=value)

    taken = center.take("file", layer)

    assert "bots.new.system_prompt" in taken.waiting
    assert taken.changed == ()
    assert center.live.settings.bots == {}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("service.auth.ak_secret", "is a secret"),
        ("master_key", "is a secret"),
        ("feishu.app_secret", "is a secret"),
        ("feishu.verify_token", "is a secret"),
        ("bots.sales.encryptKey", "is a secret"),
        ("models.backup.ak_secret", "is a secret"),
        ("keys.generateCommand", "is a command"),
        ("redis.url", "is needed before Redis is read"),
        ("config_center.redis", "is needed before Redis is read"),
    ],
)
def test_secrets_commands_and_the_way_to_redis_do_not_belong_there(name: str, told: str) -> None:
    problems: list[str] = []

    redis_layer({name: "hush"}, problems)

    assert len(problems) == 1
    assert problems[0].startswith(f"{name} (Redis) {told}")
    assert "hush" not in problems[0]


def test_what_is_derived_is_made_anew_when_the_settings_change_and_only_then() -> None:
    made: list[Settings] = []
    live = Live(Settings())
    derived = live.derive(lambda settings: made.append(settings) or len(made))

    assert [derived.value, derived.value] == [1, 1]
    live.settings = Settings(port=1)
    assert [derived.value, derived.value] == [2, 2]


def test_all_of_security_is_live_and_nothing_of_redis() -> None:
    assert is_live(("security", "allow_cidrs", "feishu"))
    assert not is_live(("redis", "url"))
    assert not is_live(("bots", "sales", "app_id"))
