"""Secret files: which are read, over what they win, and what is wrong with others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shared.config import Settings, load_settings
from shared.errors import ConfigError

HUSH = "hush-hush"
FEISHU = {
    "CLAWDBOT_FEISHU__APP_ID": "cli_1",
    "CLAWDBOT_FEISHU__ENCRYPT_KEY": "e",
}


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    folder.mkdir()
    return folder


def load(folder: Path, **environ: str) -> Settings:
    dirs = {"CLAWDBOT_SECRETS_DIR": str(folder)}
    return load_settings({**dirs, **environ}, cwd=folder.parent)


def problems_of(folder: Path, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, **environ)
    return caught.value.problems


def revealed(values: tuple) -> list[str]:
    return [value.get_secret_value() for value in values]


@pytest.mark.parametrize("name", ["clawdbot_ak_secret", "CLAWDBOT_AK_SECRET", "Clawdbot_Ak_Secret"])
def test_a_file_named_like_a_setting_holds_its_value(secrets: Path, name: str) -> None:
    (secrets / name).write_text(f"{HUSH}\n")

    assert revealed(load(secrets).service.auth.ak_secret) == [HUSH]


def test_nested_settings_named_bots_and_rotation(secrets: Path) -> None:
    (secrets / "CLAWDBOT_FEISHU__APP_SECRET").write_text('["new", "old"]\r\n')
    (secrets / "clawdbot_bots__shop-1__app_secret").write_text("s")
    (secrets / "log_level").write_text("debug")
    bot = {"CLAWDBOT_BOTS__SHOP-1__PLATFORM": "dingtalk", "CLAWDBOT_BOTS__SHOP-1__APP_KEY": "d"}

    settings = load(secrets, **FEISHU, **bot)

    assert revealed(settings.feishu.app_secret) == ["new", "old"]
    assert revealed(settings.bots["shop-1"].app_secret) == ["s"]
    assert settings.log.level == "DEBUG"


def test_a_secret_file_is_stronger_than_the_environment(secrets: Path) -> None:
    (secrets / "clawdbot_ak_secret").write_text("of the file")

    settings = load(secrets, CLAWDBOT_AK_SECRET="of the environment")

    assert revealed(settings.service.auth.ak_secret) == ["of the file"]


def test_of_several_folders_the_later_one_wins(secrets: Path, tmp_path: Path) -> None:
    later = tmp_path / "later"
    later.mkdir()
    (secrets / "clawdbot_ak_secret").write_text("first")
    (secrets / "clawdbot_ak_id").write_text("id")
    (later / "CLAWDBOT_AK_SECRET").write_text("second")

    auth = load_settings(
        {"CLAWDBOT_SECRETS_DIR": f"{secrets}{os.pathsep}later"}, cwd=tmp_path
    ).service.auth

    assert (auth.ak_id, revealed(auth.ak_secret)) == ("id", ["second"])


def test_the_layout_of_kubernetes_works(secrets: Path) -> None:
    """https://kubernetes.io/docs/concepts/configuration/secret/ : links through `..data`."""
    version = secrets / "..2026_11_26_02_00_00.123"
    version.mkdir()
    (version / "clawdbot_ak_secret").write_text("mounted\n")
    (secrets / "..data").symlink_to(version.name)
    (secrets / "clawdbot_ak_secret").symlink_to("..data/clawdbot_ak_secret")

    assert revealed(load(secrets).service.auth.ak_secret) == ["mounted"]


def test_files_of_others_and_folders_are_left_alone(secrets: Path) -> None:
    (secrets / "postgres_password").write_bytes(b"\xff")
    (secrets / "log_level_of_postgres").write_text("x")
    (secrets / "clawdbot").mkdir()

    assert load(secrets) == Settings()


def test_a_file_that_a_setting_names_is_not_taken_for_one(secrets: Path) -> None:
    (secrets / "clawdbot.yaml").write_text("port: 8080\n")
    (secrets / "clawdbot_master_key").write_text("m-1\n")

    settings = load(
        secrets,
        CLAWDBOT_CONFIG=str(secrets / "clawdbot.yaml"),
        CLAWDBOT_MASTER_KEY_FILE="secrets/clawdbot_master_key",
    )

    assert settings.port == 8080
    assert revealed(settings.master_key) == ["m-1"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("clawdbot_ak_secrets", "is not a setting; the nearest known name is CLAWDBOT_AK_SECRET"),
        ("clawdbot-ak-secret", "is not a setting; the nearest known name is CLAWDBOT_AK_SECRET"),
        ("clawdbot_feishu", "is a group of settings, not a value"),
    ],
)
def test_a_name_of_ours_that_is_no_setting_is_an_error(secrets: Path, name: str, told: str) -> None:
    (secrets / name).write_text(HUSH)

    (problem,) = problems_of(secrets)

    assert problem.startswith(f"{name.upper()} (secret file {secrets / name}) ")
    assert told in problem
    assert HUSH not in problem


@pytest.mark.parametrize(
    ("content", "told"), [(b"\xff\xfe", "it is not UTF-8 text"), (b" \n", "the file is empty")]
)
def test_a_file_without_a_usable_value_is_an_error(
    secrets: Path, content: bytes, told: str
) -> None:
    (secrets / "clawdbot_ak_secret").write_bytes(content)

    (problem,) = problems_of(secrets)

    assert problem.startswith("CLAWDBOT_AK_SECRET (secret file ")
    assert problem.endswith(told)


def test_a_link_that_leads_nowhere_is_an_error(secrets: Path) -> None:
    (secrets / "clawdbot_ak_secret").symlink_to("..data/clawdbot_ak_secret")

    (problem,) = problems_of(secrets)

    assert problem.endswith("the file can't be read: No such file or directory")


def test_a_folder_that_is_not_there_is_told_with_who_named_it(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("CLAWDBOT_SECRETS_DIR=none\n")

    with pytest.raises(ConfigError) as caught:
        load_settings({}, cwd=tmp_path)

    (problem,) = caught.value.problems
    assert problem.startswith("CLAWDBOT_SECRETS_DIR (.env): ")
    assert problem.endswith("none can't be read: No such file or directory")


def test_a_wrong_value_is_told_with_its_file(secrets: Path) -> None:
    (secrets / "clawdbot_port").write_text(HUSH)

    (problem,) = problems_of(secrets)

    label = f"CLAWDBOT_PORT (secret file {secrets / 'clawdbot_port'})"
    assert problem == f"{label}: must be a whole number"


def test_two_files_of_one_setting_must_agree(secrets: Path) -> None:
    (secrets / "clawdbot_log__level").write_text("INFO")
    (secrets / "log_level").write_text("DEBUG")

    (problem,) = problems_of(secrets)

    assert "are the same setting with different values" in problem
