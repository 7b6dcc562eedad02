"""`clawdbot flower` never starts a Flower that asks for no password."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from click.testing import CliRunner

from shared.cli import cli
from workers.ops.flower import PASSWORD


def started(
    monkeypatch: pytest.MonkeyPatch, *arguments: str, **environ: str
) -> tuple[Sequence[str], Mapping[str, str], str]:
    """The command that takes this process's place, its environment, what was told before."""
    took_over: list[tuple[Sequence[str], Mapping[str, str]]] = []
    monkeypatch.setattr("os.execvpe", lambda _, command, env: took_over.append((command, env)))
    for name in (PASSWORD, "FLOWER_AUTH"):
        monkeypatch.delenv(name, raising=False)
    result = CliRunner().invoke(cli, ["flower", *arguments], env=environ)
    assert result.exit_code == 0, result.output
    ((command, env),) = took_over
    return command, env, result.output


def test_a_password_is_made_up_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    command, environ, told = started(monkeypatch, "--address=0.0.0.0", "--port=5556")
    _, again, _ = started(monkeypatch)

    user, _, password = environ[PASSWORD].partition(":")
    assert len(password) >= 16
    assert f"user {user}, password {password}" in told
    assert again[PASSWORD] != environ[PASSWORD]
    assert command[-3:] == ["flower", "--address=0.0.0.0", "--port=5556"]


@pytest.mark.parametrize(
    ("arguments", "environ"),
    [
        ((), {PASSWORD: "ada:secret"}),
        ((), {"FLOWER_AUTH": ".*@example[.]com"}),
        (("--basic-auth=ada:secret",), {}),
        (("--basic_auth=ada:secret",), {}),
        (("--auth=.*@example[.]com",), {}),
    ],
)
def test_a_password_that_is_set_stands(
    arguments: tuple[str, ...], environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, given, told = started(monkeypatch, *arguments, **environ)

    assert given.get(PASSWORD, "") == environ.get(PASSWORD, "")
    assert told == ""


def test_an_empty_password_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    _, environ, told = started(monkeypatch, **{PASSWORD: ""})

    assert environ[PASSWORD]
    assert "password" in told
