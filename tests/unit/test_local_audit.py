"""`make audit`: what fails a run, what is accepted for a while, and what can't be told."""

from __future__ import annotations

import subprocess
import tomllib
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from requirements import audit

TODAY = date(2026, 11, 26)
#: As pip-audit 2.10 prints it.
REPORT: dict[str, Any] = {
    "dependencies": [
        {"name": "click", "version": "8.5.1", "vulns": []},
        {"name": "left", "skip_reason": "Dependency not found on PyPI"},
        {
            "name": "flask",
            "version": "0.5",
            "vulns": [
                {
                    "id": "PYSEC-2019-179",
                    "fix_versions": ["1.0"],
                    "aliases": ["CVE-2019-1010083", "GHSA-5wv5-4vpf-pj6m"],
                    "description": "…",
                }
            ],
        },
    ],
    "fixes": [],
}
CLEAN = {"dependencies": REPORT["dependencies"][:2], "fixes": []}


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    file = tmp_path / "known-vulnerabilities.toml"
    file.write_text("")
    monkeypatch.setattr(audit, "KNOWN", file)
    return lambda text: (file.write_text(text), None)[1]


def entry(name: str, until: str, reason: str = "only its server is affected") -> str:
    return f'[[known]]\nid = "{name}"\nreason = "{reason}"\nuntil = {until}\n'


@pytest.mark.usefixtures("listed")
def test_a_vulnerability_that_nobody_listed_fails_with_its_cure(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert audit.judge(REPORT, TODAY) == 1
    assert "flask 0.5: PYSEC-2019-179, CVE-2019-1010083" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["PYSEC-2019-179", "GHSA-5wv5-4vpf-pj6m"])
def test_a_listed_one_is_accepted_until_its_date(name: str, listed: Callable[[str], None]) -> None:
    listed(entry(name, "2026-11-26"))
    assert audit.judge(REPORT, TODAY) == 0
    listed(entry(name, "2026-11-25"))
    assert audit.judge(REPORT, TODAY) == 1


def test_an_entry_without_a_reason_is_refused(listed: Callable[[str], None]) -> None:
    listed(entry("PYSEC-2019-179", "2026-12-01", reason=""))
    with pytest.raises(SystemExit, match="no reason"):
        audit.judge(REPORT, TODAY)


@pytest.mark.usefixtures("listed")
def test_without_a_finding_it_says_how_many_were_looked_at(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert audit.judge(CLEAN, TODAY) == 0
    assert "1 packages, nothing that is not known" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("prints", "why"),
    [
        ("ConnectionError: no route", "ConnectionError: no route"),
        (
            '{"dependencies": [{"name": "x", "skip_reason": "not found"}]}',
            "the index tells nothing",
        ),
    ],
)
def test_where_nobody_can_be_asked_it_says_so_and_fails_nothing(
    prints: str,
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tool = tmp_path / "pip-audit"
    where = "" if prints.startswith("{") else ">&2"
    tool.write_text(f"#!/bin/sh\necho '{prints}' {where}\nexit 1\n")
    tool.chmod(0o755)
    monkeypatch.setattr(audit, "install", lambda: tool)

    assert audit.main() == 0
    assert f"audit: skipped, nobody could be asked: {why}" in capsys.readouterr().out


def test_a_tool_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "TIMEOUT_S", 0.1)
    with pytest.raises(audit.UnreachableError, match=r"0\.1 s"):
        audit.run(["sleep", "5"])


def test_the_list_in_use_can_be_read() -> None:
    listed = tomllib.loads(audit.KNOWN.read_text("utf-8"))
    assert audit.known(listed, TODAY) <= {each["id"] for each in listed.get("known", ())}


def test_the_ci_script_is_a_script() -> None:
    ci = Path(__file__).parents[2] / ".ci/run"
    assert subprocess.run(["bash", "-n", str(ci)], check=False).returncode == 0
