"""What a process asks of the operating system."""

from __future__ import annotations

import os
import sys

import pytest

from shared.process import start_anew


class ReplacedError(Exception):
    """In place of the end that `execv` is to a process."""


@pytest.mark.parametrize(
    ("euid", "kept"),
    [(0, ["--uid", "bot", "--gid=bot"]), (1000, [])],
    ids=["root", "who gave its rights away"],
)
def test_celery_changes_the_user_once(
    euid: int, kept: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run: list[list[str]] = []

    def execv(_: str, arguments: list[str]) -> None:
        run.append(arguments)
        raise ReplacedError

    user = ["--uid", "bot", "--gid=bot"]
    monkeypatch.setattr(os, "execv", execv)
    monkeypatch.setattr(os, "geteuid", lambda: euid)
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "celery", "worker", *user, "-c", "3"])

    with pytest.raises(ReplacedError):
        start_anew()

    assert run == [[sys.executable, "-m", "celery", "worker", *kept, "-c", "3"]]
