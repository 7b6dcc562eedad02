"""`.env.example` and `docs/settings.md` name exactly the known settings, and their defaults."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
from dotenv import dotenv_values

from shared.config import Settings, load_settings
from shared.config.known import known_settings
from workers.ops.flower import PASSWORD

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / ".env.example"
COMPOSE = ROOT / "compose/compose.yaml"
NO_SETTINGS = ("UP_", PASSWORD)
NEEDED = {
    "CLAWDBOT_DINGTALK__APP_KEY": "ding1",
    "CLAWDBOT_DINGTALK__APP_SECRET": "s",
    "CLAWDBOT_FEISHU__APP_ID": "cli_1",
    "CLAWDBOT_FEISHU__APP_SECRET": "s",
    "CLAWDBOT_FEISHU__ENCRYPT_KEY": "e",
}


@pytest.fixture
def uncommented(tmp_path) -> Path:
    """The example as an `.env` in which every line is in force."""
    file = tmp_path / ".env"
    text = EXAMPLE.read_text(encoding="utf-8")
    file.write_text(re.sub(r"^# ([A-Z_]+=)", r"\1", text, flags=re.M), encoding="utf-8")
    return file


def test_example_names_every_setting_with_its_default(uncommented):
    written = {
        name: value
        for name, value in dotenv_values(uncommented, interpolate=False).items()
        if not name.startswith(NO_SETTINGS)
    }

    assert (written.pop("CLAWDBOT_CONFIG"), written.pop("CLAWDBOT_SECRETS_DIR")) == ("", "")
    assert written == {known.env: known.default for known in known_settings()}


def test_example_names_what_compose_reads_besides_with_its_default(uncommented):
    written = dotenv_values(uncommented, interpolate=False)
    read = dict(re.findall(r"\$\{(UP_\w+):-([^}]*)\}", COMPOSE.read_text(encoding="utf-8")))
    del read["UP_ENV_FILE"]  # it names another file than this one

    assert {name: value for name, value in written.items() if name.startswith("UP_")} == read
    assert written[PASSWORD] == ""


def test_example_as_it_is_changes_nothing(tmp_path):
    (tmp_path / ".env").write_bytes(EXAMPLE.read_bytes())

    assert load_settings({}, cwd=tmp_path) == Settings()


def test_example_loads_with_every_line_in_force(uncommented):
    settings = load_settings(NEEDED, cwd=uncommented.parent)

    assert settings == Settings(default_bots=settings.default_bots)
    assert settings == load_settings(NEEDED, cwd=uncommented.parent / "elsewhere")


def test_every_line_of_the_example_is_explained():
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    setting = re.compile(r"# [A-Z_]+=")

    for before, line in pairwise(lines):
        if setting.match(line):
            assert before.startswith("# "), line
            assert not setting.match(before), line


def test_docs_name_every_setting_with_its_default():
    text = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `?([\w.–]+)`? \| `?([^|`]+)`? \| (\S+) \|", text, re.M)

    assert rows == [
        (known.env, known.yaml or "–", known.default or "–", known.unit or "–")
        for known in known_settings()
    ]
