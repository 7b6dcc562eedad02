"""`clawdbot addresses` against the simulated platforms, and what it prints used as a setting."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from shared.cli import cli
from shared.errors import ConfigError, PermanentError, TransientError
from tests.integration.gateway import KNOWN, build, environ_for, running, settings_for, simulator
from tests.redis_server import RedisServer, free_port
from tests.simulator import credentials as names
from tests.simulator.world import World

NO_REDIS = "redis://127.0.0.1:9/0"


@pytest.fixture
def world() -> Iterator[World]:
    with simulator(free_port()) as made:
        yield made


@pytest.fixture
def environ(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.chdir(tmp_path)  # no `.env` lies there
    return environ_for(NO_REDIS, world.base_url)


def run(environ: dict[str, str], *arguments: str) -> Result:
    return CliRunner(env=environ).invoke(cli, ["addresses", *arguments], catch_exceptions=False)


def cidrs(environ: dict[str, str], *arguments: str) -> list[str]:
    result = run(environ, "feishu", "--json", *arguments)
    assert result.exit_code == 0, result.output
    told: dict[str, Any] = json.loads(result.stdout)
    assert (told["platform"], told["bot"]) == ("feishu", KNOWN[names.FEISHU_APP_ID])
    found: list[str] = told["cidrs"]
    return found


def test_all_pages_are_fetched_without_redis(world: World, environ: dict[str, str]) -> None:
    assert len(world.outbound_addresses) > 50  # more than one page has

    assert cidrs(environ) == [
        "127.0.0.1/32",
        *(f"203.0.113.{n}/32" for n in range(0, 120, 2)),
        "::1/128",
    ]


def test_neighbours_are_joined_and_repeats_dropped(world: World, environ: dict[str, str]) -> None:
    world.outbound_addresses = ("203.0.113.0", "203.0.113.1", "203.0.113.0", "2001:db8::/32")

    assert cidrs(environ) == ["203.0.113.0/31", "2001:db8::/32"]


async def test_what_is_printed_lets_the_platform_in(
    world: World, environ: dict[str, str], redis_server: RedisServer
) -> None:
    name, _, value = run(environ, "feishu").stdout.strip().partition("=")
    assert name == "CLAWDBOT_SECURITY__ALLOW_CIDRS__FEISHU"
    changes = {name.removeprefix("CLAWDBOT_"): value}

    async with running(settings_for(redis_server.url, **changes)) as gateway:
        assert (await gateway.post(build("feishu"))).status == 200


@pytest.mark.parametrize("bot", ["default", KNOWN[names.FEISHU_APP_ID]])
def test_a_bot_is_named_by_its_name_or_app_id(bot: str, environ: dict[str, str]) -> None:
    assert cidrs(environ, "--bot", bot)


def test_a_bot_of_the_watched_file_is_asked_as(environ: dict[str, str], tmp_path: Path) -> None:
    prefix = "CLAWDBOT_FEISHU__"
    block = {
        n.removeprefix(prefix).lower(): environ.pop(n)
        for n in list(environ)
        if n.startswith(prefix)
    }
    (tmp_path / "live.yaml").write_text(json.dumps({"feishu": block}))

    assert cidrs({**environ, "CLAWDBOT_CONFIG_CENTER__FILE": "live.yaml"})


def test_a_platform_that_publishes_none_says_so(environ: dict[str, str]) -> None:
    result = run(environ, "dingtalk")

    assert result.exit_code == 1
    assert "publishes no addresses" in result.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["wecom"], "wecom"), ([], "Missing argument"), (["feishu", "--bot", "x"], "default")],
)
def test_wrong_use_is_told(arguments: list[str], told: str, environ: dict[str, str]) -> None:
    result = run(environ, *arguments)

    assert result.exit_code == 2
    assert told in result.output


def test_a_platform_without_a_bot_can_t_be_asked(environ: dict[str, str]) -> None:
    alone = {name: value for name, value in environ.items() if "FEISHU" not in name}

    result = run(alone, "feishu")

    assert result.exit_code == 1
    assert "no bot of feishu is configured" in result.output


def test_wrong_settings_are_the_usual_error(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        run({**environ, "CLAWDBOT_PORT": "x"}, "feishu")


def test_a_missing_scope_keeps_the_platform_s_code(world: World, environ: dict[str, str]) -> None:
    order = {"target": "feishu.addresses", "kind": "errcode", "code": 99991672}
    world.faults.order({**order, "message": "no event:ip_list"})

    with pytest.raises(PermanentError, match="feishu:99991672: no event:ip_list"):
        run(environ, "feishu")


@pytest.mark.parametrize("told", ["", "203.0.113.256", "example.org", "203.0.113.1/8"])
def test_an_address_that_can_t_be_read_is_no_reason_to_leave_it_out(
    told: str, world: World, environ: dict[str, str]
) -> None:
    world.outbound_addresses = ("203.0.113.1", told)

    with pytest.raises(TransientError, match="addresses:unreadable"):
        run(environ, "feishu")


@pytest.mark.parametrize("body", ["{}", '{"code":0}', '{"code":0,"data":{"ip_list":{}}}', "[]", ""])
def test_an_answer_without_a_list_is_an_error(
    body: str, world: World, environ: dict[str, str]
) -> None:
    order = {"target": "feishu.addresses", "kind": "status", "status": 200}
    world.faults.order({**order, "body": body})

    with pytest.raises(TransientError):
        run(environ, "feishu")


def test_pages_that_never_end_are_not_followed(
    world: World, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.ops.addresses.MAX_PAGES", 1)

    with pytest.raises(TransientError, match="still more after 1 pages"):
        run(environ, "feishu")
