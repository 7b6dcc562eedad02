"""`clawdbot flower` always asks for a password; Celery's own Flower listens at home without one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from click.testing import CliRunner

from shared.cli import cli
from workers.flower_address import PASSWORD, keep_at_home


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


def test_a_provider_alone_asks_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = "--auth_provider=flower.views.auth.GoogleAuth2LoginHandler"

    _, environ, told = started(monkeypatch, provider, FLOWER_AUTH="")

    assert environ[PASSWORD]
    assert "password" in told


@pytest.mark.parametrize(
    ("arguments", "environ", "why"),
    [
        (["--basic-auth="], {}, "--basic-auth: an empty password"),
        (["--basic_auth"], {}, "--basic_auth: an empty password"),
        (["--basic-auth=ada:secret,"], {}, "--basic-auth: an empty password"),
        (["--auth="], {PASSWORD: "ada:secret"}, "--auth: an empty password"),
        ([], {PASSWORD: "ada:secret,"}, f"{PASSWORD}: an empty password"),
        (["--basic-auth", "ada:secret"], {}, "are written --name=value"),
        (["port=5556", "--basic-auth=ada:secret"], {}, "are written --name=value"),
    ],
)
def test_a_password_that_flower_would_not_ask_for_is_refused(
    arguments: list[str], environ: dict[str, str], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.execvpe", lambda *_: pytest.fail("Flower was started"))

    result = CliRunner().invoke(cli, ["flower", *arguments], env=environ)

    assert result.exit_code == 2
    assert why in result.output


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ((), {}),
        (("--port=5556",), {}),
        (("--basic-auth=",), {}),
        (("--basic-auth=ada:secret,",), {}),
        ((), {PASSWORD: ""}),
        (("--auth_provider=flower.views.auth.GoogleAuth2LoginHandler",), {}),
    ],
)
def test_without_a_password_it_listens_on_this_machine(
    arguments: tuple[str, ...], given: dict[str, str]
) -> None:
    environ = dict(given)

    keep_at_home(("celery", "-A", "workers", "flower", *arguments), environ)

    assert environ == {**given, "FLOWER_ADDRESS": "127.0.0.1"}


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ((), {PASSWORD: "ada:secret"}),
        ((), {"FLOWER_AUTH": ".*@example[.]com"}),
        (("--basic_auth=ada:secret",), {}),
        (("--auth=.*@example[.]com",), {}),
        ((), {"FLOWER_ADDRESS": "192.0.2.1"}),
    ],
)
def test_with_a_password_or_an_address_it_listens_where_it_is_told(
    arguments: tuple[str, ...], given: dict[str, str]
) -> None:
    environ = dict(given)

    keep_at_home(("celery", "-A", "workers", "flower", *arguments), environ)

    assert environ == given
