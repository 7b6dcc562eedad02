"""Models by name: their blocks, chains of them, and what is wrong with either."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.config import load_settings
from shared.config.accounts import Account, accounts
from shared.errors import ConfigError

YAML = """\
service:
  auth: {endpoint: "https://first.example/v1", akSecret: sk-1}
model:
  name: large
  chain: [default, backup]
models:
  backup:
    endpoint: https://second.example/v1
    name: small
    akSecret: ${ENV:BACKUP_KEY}
    maxConcurrent: 20
    stream: false
feishu: {app_id: cli_1, app_secret: s, encrypt_key: e, model_chain: [backup]}
"""


def load(folder: Path, yaml: str = "", **environ: str):
    if yaml:
        (folder / "c.yaml").write_text(yaml, encoding="utf-8")
        environ["CLAWDBOT_CONFIG"] = "c.yaml"
    return load_settings(environ, cwd=folder)


def problems_of(folder: Path, yaml: str = "", **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, yaml, **environ)
    return caught.value.problems


def test_a_block_is_a_model_beside_the_default_one(tmp_path: Path) -> None:
    settings = load(tmp_path, YAML, BACKUP_KEY="sk-2")

    models = settings.all_models()
    assert list(models) == ["default", "backup"]
    assert (models["default"].name, models["default"].endpoint) == (
        "large",
        "https://first.example/v1",
    )
    backup = models["backup"]
    assert (backup.name, backup.max_concurrent, backup.stream) == ("small", 20, False)
    assert backup.ak_secret[0].get_secret_value() == "sk-2"


def test_a_bots_chain_comes_before_that_of_all(tmp_path: Path) -> None:
    more = {"CLAWDBOT_DINGTALK__APP_KEY": "ding1", "CLAWDBOT_DINGTALK__APP_SECRET": "s"}
    settings = load(tmp_path, YAML, BACKUP_KEY="sk-2", **more)

    assert settings.chain_of(settings.feishu) == ("backup",)
    assert settings.chain_of(settings.dingtalk) == ("default", "backup")


def test_without_a_chain_the_default_model_answers(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        CLAWDBOT_ENDPOINT="https://first.example/v1",
        CLAWDBOT_DINGTALK__APP_KEY="ding1",
        CLAWDBOT_DINGTALK__APP_SECRET="s",
    )

    assert settings.chain_of(settings.dingtalk) == ("default",)


def test_a_block_may_stand_in_the_environment(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        CLAWDBOT_MODELS__BACKUP__ENDPOINT="https://second.example/v1",
        CLAWDBOT_MODEL__CHAIN="backup",
    )

    assert list(settings.all_models()) == ["backup"]


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        (
            {"CLAWDBOT_MODEL__CHAIN": "defualt", "CLAWDBOT_ENDPOINT": "https://a.example/v1"},
            "CLAWDBOT_MODEL__CHAIN (environment): there is no model defualt; "
            "the nearest is default",
        ),
        (
            {"CLAWDBOT_MODEL__CHAIN": "default"},
            "CLAWDBOT_MODEL__CHAIN (environment) names the default model: set CLAWDBOT_ENDPOINT",
        ),
        (
            {"CLAWDBOT_MODELS__BACKUP__NAME": "small"},
            "CLAWDBOT_MODELS__BACKUP__ENDPOINT: is not set, but needed",
        ),
        (
            {"CLAWDBOT_MODELS__DEFAULT__ENDPOINT": "https://a.example/v1"},
            "models.default (environment): default is the model of CLAWDBOT_ENDPOINT; "
            "choose another name",
        ),
        (
            {
                "CLAWDBOT_MODELS__BACKUP__ENDPOINT": "https://a.example/v1",
                "CLAWDBOT_MODELS__BACKUP__NAMES": "small",
            },
            "CLAWDBOT_MODELS__BACKUP__NAMES (environment) is not a setting; "
            "the nearest known name is CLAWDBOT_MODELS__BACKUP__NAME",
        ),
        (
            {"CLAWDBOT_MODELS__BACKUP": "https://a.example/v1"},
            "CLAWDBOT_MODELS__BACKUP (environment) is a group of settings, not a value; "
            "set for instance CLAWDBOT_MODELS__BACKUP__AK_ID",
        ),
        (
            {
                "CLAWDBOT_ENDPOINT": "https://a.example/v1",
                "CLAWDBOT_MODEL__AUTH": "volcengine",
                "CLAWDBOT_AK_ID": "AK",
                "CLAWDBOT_AK_SECRET": "sk",
            },
            "CLAWDBOT_MODEL__RESOURCE_IDS is not set, but needed with "
            "CLAWDBOT_MODEL__AUTH (environment): volcengine",
        ),
    ],
    ids=["misspelt", "no default", "no address", "reserved", "unknown", "no value", "volcengine"],
)
def test_what_is_wrong_is_told_by_its_setting(
    tmp_path: Path, environ: dict[str, str], told: str
) -> None:
    assert problems_of(tmp_path, **environ) == [told]


PLUS = {
    "CLAWDBOT_ENDPOINT": "https://a.example/v1",
    "CLAWDBOT_AK_SECRET": "sk-1",
    "CLAWDBOT_MODEL__MAX_CONCURRENT": "20",
}
TURBO = {"CLAWDBOT_MODELS__TURBO__ENDPOINT": "https://A.example/v1/chat/completions"}


def accounts_of(folder: Path, **environ: str) -> list[Account]:
    return list(accounts(load(folder, **environ).all_models()))


@pytest.mark.parametrize(
    "key",
    [
        {"CLAWDBOT_MODELS__TURBO__AK_SECRET": "sk-1"},
        {
            "CLAWDBOT_MODELS__TURBO__AK_SECRET": "sk-2",
            "CLAWDBOT_MODELS__TURBO__AK_ID": "mine",
            "CLAWDBOT_AK_ID": "mine",
        },
    ],
    ids=["secret", "id"],
)
def test_models_with_the_same_endpoint_and_key_are_of_one_account(
    tmp_path: Path, key: dict[str, str]
) -> None:
    assert accounts_of(tmp_path, **PLUS, **TURBO, **key) == [
        Account("default", ("default", "turbo"), 20)
    ]


@pytest.mark.parametrize(
    "other",
    [
        {"CLAWDBOT_MODELS__TURBO__AK_SECRET": "sk-2"},
        {"CLAWDBOT_MODELS__TURBO__AK_SECRET": "sk-1", "CLAWDBOT_MODELS__TURBO__AK_ID": "other"},
        {
            "CLAWDBOT_MODELS__TURBO__AK_SECRET": "sk-1",
            "CLAWDBOT_MODELS__TURBO__ENDPOINT": "https://b.example/v1",
        },
    ],
    ids=["secret", "id", "endpoint"],
)
def test_another_key_or_endpoint_is_another_account(tmp_path: Path, other: dict[str, str]) -> None:
    limit = {"CLAWDBOT_MODELS__TURBO__MAX_CONCURRENT": "5"}

    assert accounts_of(tmp_path, **PLUS, **(TURBO | other | limit)) == [
        Account("default", ("default",), 20),
        Account("turbo", ("turbo",), 5),
    ]


def test_models_whose_keys_are_in_their_rings_alone_are_accounts_of_their_own(
    tmp_path: Path,
) -> None:
    """Both secrets were taken out of the settings after a rotation: the start was refused."""
    plus = PLUS | {"CLAWDBOT_AK_SECRET": "", "CLAWDBOT_MASTER_KEY": "a master key of tests"}
    limit = {"CLAWDBOT_MODELS__TURBO__MAX_CONCURRENT": "5"}

    assert accounts_of(tmp_path, **plus, **TURBO, **limit) == [
        Account("default", ("default",), 20),
        Account("turbo", ("turbo",), 5),
    ]


def test_an_account_has_one_limit(tmp_path: Path) -> None:
    turbo = TURBO | {
        "CLAWDBOT_MODELS__TURBO__AK_SECRET": "sk-1",
        "CLAWDBOT_MODELS__TURBO__MAX_CONCURRENT": "5",
    }

    assert problems_of(tmp_path, **PLUS, **turbo) == [
        "CLAWDBOT_MODELS__TURBO__MAX_CONCURRENT (environment) differs from "
        "CLAWDBOT_MODEL__MAX_CONCURRENT (environment), but the models default and turbo have the "
        "same endpoint and key, and share their slots: give both the same number, or one"
    ]
    same = turbo | {"CLAWDBOT_MODELS__TURBO__MAX_CONCURRENT": "20"}
    assert [account.limit for account in accounts_of(tmp_path, **PLUS, **same)] == [20]


def test_a_name_that_can_not_stand_in_a_redis_key_is_refused(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, "models:\n  My Model: {endpoint: https://a.example/v1}\n")

    assert problem.startswith("models.My Model (")
    assert "c.yaml line 2): a model's name has 1 to 32 of" in problem
