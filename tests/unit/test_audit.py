"""The audit trail's two logs: apart from the others where there is a folder, marked where not."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared import audit
from shared.audit import Action


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    audit.configure("test")


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def test_an_action_is_a_line_of_audit_log_with_who_and_where(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    audit.configure("clawdbot", directory=tmp_path)

    audit.record("key.added", model="default", key="3f2a9c0b")

    (line,) = lines(tmp_path / "audit.log")
    metadata = line.pop("metadata")
    assert (line["service"], line["message"], line["level"]) == ("clawdbot", "key.added", "INFO")
    assert metadata.pop("user")
    assert metadata == {
        "log": "audit",
        "host": os.uname().nodename,
        "model": "default",
        "key": "3f2a9c0b",
    }
    assert not caplog.records, "it stands in its own log alone"
    assert not (tmp_path / "auth.log").exists()


def test_without_a_folder_it_goes_with_the_rest_and_is_marked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    audit.configure("ingress")

    audit.write(audit.REFUSALS, "request.refused", level=logging.WARNING, reason="signature")

    (record,) = caplog.records
    assert record.metadata == {"log": "auth", "reason": "signature"}  # type: ignore[attr-defined]


def test_no_log_level_silences_it(tmp_path: Path) -> None:
    logging.getLogger().setLevel(logging.CRITICAL)
    audit.configure("clawdbot", directory=tmp_path)
    audit.record("key.added")

    assert len(lines(tmp_path / "audit.log")) == 1


def test_an_action_is_handed_on_inside_the_block_alone() -> None:
    kept: list[Action] = []
    audit.record("before")
    with audit.kept_by(kept.append):
        audit.record("key.added", key="3f2a9c0b")
    audit.record("after")

    (action,) = kept
    assert (action.name, dict(action.facts)) == ("key.added", {"key": "3f2a9c0b"})
    assert action.user
    assert action.host == os.uname().nodename


def test_whoever_has_no_name_here_is_named_by_number() -> None:
    code = (
        "import os\nfrom shared import audit\n"
        "os.setsid(); os.setuid(61234)\n"
        "with audit.kept_by(lambda action: print(action.user)): audit.record('x')"
    )
    if os.getuid():
        pytest.skip("only root can become somebody else")
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ran.stdout.strip() in ("uid 61234", *_login()), ran.stderr


def _login() -> tuple[str, ...]:
    try:
        return (os.getlogin(),)
    except OSError:
        return ()
