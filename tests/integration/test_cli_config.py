"""`clawdbot config …`: what is in force and why; the centre in a real Redis."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import redis

from shared.cli import main
from shared.state import keys
from tests.integration import lanes
from tests.integration.gateway import CREDENTIALS, environ_for
from tests.integration.test_cli import Operator
from tests.redis_server import RedisServer, free_port
from tests.simulator import credentials as names

SECRETS = [CREDENTIALS[n] for n in (names.DINGTALK_APP_SECRET, names.FEISHU_ENCRYPT_KEY)]


@pytest.fixture
def environ(
    redis_server: RedisServer,
    redis_client: redis.Redis,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, str]:
    monkeypatch.chdir(tmp_path)
    return environ_for(redis_server.url)


@pytest.fixture
def operator(environ: dict[str, str]) -> Operator:
    return Operator(environ)


def refused(operator: Operator, *arguments: str, capsys: Any, monkeypatch: Any) -> str:
    """What a command that is refused says, with exit code 2, as the console script does."""
    monkeypatch.setattr("sys.argv", ["clawdbot", *arguments])
    for name, value in operator.environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    told: str = capsys.readouterr().err
    return told


def row(operator: Operator, name: str, *arguments: str) -> dict[str, Any]:
    (found,) = [r for r in operator.json("config", "show", *arguments) if r["name"] == name]
    return dict(found)


def test_show_tells_the_value_in_force_and_where_it_was_written(
    operator: Operator, tmp_path: Path, redis_client: redis.Redis
) -> None:
    (tmp_path / ".env").write_text("CLAWDBOT_CONFIG=c.yaml\nCLAWDBOT_CONVERSATION__TURNS=3\n")
    (tmp_path / "c.yaml").write_text("model:\n  systemPrompt: 'line\n\n    two'\n")
    redis_client.hset(keys.CONFIG, "security.qps", "7")

    shown = operator.told("config", "show")

    assert "conversation.turns: 3  # .env\n" in shown
    assert f'model.system_prompt: "line\\ntwo"  # {tmp_path}/c.yaml line 2\n' in shown
    assert "security.qps: 7  # Redis\n" in shown
    assert "feishu.app_id: cli_test1  # environment\n" in shown
    assert "retry." not in shown
    found = row(operator, "retry.base_s", "--all")
    assert (found["value"], found["source"], found["live"]) == (0.5, "default", False)
    found = row(operator, "security.qps")
    assert (found["written_as"], found["live"]) == ("security.qps", True)


def test_show_hides_every_secret(operator: Operator, redis_server: RedisServer) -> None:
    operator.environ["CLAWDBOT_REDIS__URL"] = f"redis://:;'hush1@127.0.0.1:{free_port()}/0"
    operator.environ["CLAWDBOT_KEYS__GENERATE_COMMAND"] = "vault read --token=hush2 kv/model"
    operator.environ["CLAWDBOT_MASTER_KEY"] = '["hush3", "hush4"]'

    result = operator.run("config", "show", "--all", "--json")

    assert result.exit_code == 0
    assert not [secret for secret in ("hush", *SECRETS) if secret in result.output]
    rows = {r["name"]: r["value"] for r in json.loads(result.stdout)}
    assert rows["master_key"] == ["***", "***"]
    assert rows["feishu.encrypt_key"] == ["***"]
    assert rows["redis.url"].startswith("redis://127.0.0.1:")
    assert "the configuration centre could not be read (redis)" in result.stderr


def test_show_of_sentinels_hides_each_password(operator: Operator) -> None:
    port = free_port()
    operator.environ["CLAWDBOT_REDIS__URL"] = (
        f"sentinel://u:hush@127.0.0.1:{port};sentinel://u:hush@127.0.0.1:{port}"
    )
    operator.environ["CLAWDBOT_REDIS__MASTER_NAME"] = "m"

    result = operator.run("config", "show")

    assert f"redis.url: sentinel://127.0.0.1:{port};sentinel://127.0.0.1:{port}" in result.stdout
    assert "hush" not in result.output


def test_check_tells_all_problems_at_once_and_exits_with_2(
    operator: Operator, redis_client: redis.Redis
) -> None:
    operator.environ |= {"CLAWDBOT_PORT": "zero", "CLAWDBOT_PROT": "1", "LOG_LEVEL": "LOUD"}

    result = operator.run("config", "check")
    assert result.exit_code == 2
    assert result.output.count("problem: ") == 3
    told = json.loads(operator.run("config", "check", "--json").output)
    assert len(told["problems"]) == 3


def test_check_tells_warnings_and_what_the_centre_may_not_say(
    operator: Operator, redis_client: redis.Redis
) -> None:
    operator.environ["LOG_CONTENT"] = "true"
    assert "warning: LOG_CONTENT is on" in operator.told("config", "check")
    assert "the settings can be used" in operator.told("config", "check")

    redis_client.hset(keys.CONFIG, "security.qps", "many")
    result = operator.run("config", "check")
    assert result.exit_code == 2
    assert "problem: security.qps (Redis): must be a whole number" in result.output


def test_schema_is_json(operator: Operator) -> None:
    assert json.loads(operator.told("config", "schema"))["properties"]["port"]["default"] == 18789


def test_set_list_and_unset(operator: Operator, redis_client: redis.Redis) -> None:
    told = operator.told("config", "set", "model.systemPrompt", "Be brief.")
    assert told == "model.system_prompt is set: live, in force within seconds\n"
    told = operator.told("config", "set", "port", "8080")
    assert told == "port is set: in force after a restart of ingress and workers\n"
    assert redis_client.hgetall(keys.CONFIG) == {"model.system_prompt": "Be brief.", "port": "8080"}

    assert operator.json("config", "list") == [
        {"name": "model.system_prompt", "value": "Be brief.", "live": True},
        {"name": "port", "value": "8080", "live": False},
    ]
    assert row(operator, "model.system_prompt")["value"] == "Be brief."

    told = operator.told("config", "unset", "model.systemPrompt")
    assert told == "model.system_prompt is unset: live, in force within seconds\n"
    assert operator.json("config", "unset", "port") == {
        "name": "port",
        "done": "unset",
        "live": False,
    }
    assert operator.told("config", "list") == "nothing is set in the configuration centre\n"
    assert operator.run("config", "unset", "port").exit_code == 1


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("quotas.user.requests_per_dya", "1", "the nearest known name is quotas.user.requests_per"),
        ("security.qps", "many", "security.qps (Redis): must be a whole number"),
        ("model.chain", "nobody", "model.chain (Redis): there is no model nobody"),
        ("feishu.app_secret", "hush", "feishu.app_secret is a secret"),
        ("redis.url", "redis://hush/0", "redis.url is needed before Redis is read"),
        ("async_processing.enabled", "false", "acknowledging before the work is what keeps mess"),
    ],
)
def test_what_could_not_be_used_is_not_written(
    operator: Operator,
    redis_client: redis.Redis,
    name: str,
    value: str,
    told: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = refused(operator, "config", "set", name, value, capsys=capsys, monkeypatch=monkeypatch)

    assert told in said
    assert "hush" not in said
    assert redis_client.exists(keys.CONFIG) == 0


def test_what_another_setting_needs_is_not_taken_out(
    operator: Operator, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.told("config", "set", "models.backup.endpoint", "https://m.example/v1")
    operator.told("config", "set", "model.chain", "default,backup")

    said = refused(
        operator,
        *("config", "unset", "models.backup.endpoint"),
        capsys=capsys,
        monkeypatch=monkeypatch,
    )

    assert "there is no model backup" in said
    operator.told("config", "unset", "model.chain")
    operator.told("config", "unset", "models.backup.endpoint")


def test_what_the_file_needs_is_not_taken_out(
    operator: Operator,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    operator.environ["CLAWDBOT_CONFIG_CENTER__FILE"] = "center.yaml"
    operator.told("config", "set", "models.backup.endpoint", "https://m.example/v1")
    (tmp_path / "center.yaml").write_text("model: {chain: [default, backup]}\n")
    assert "the settings can be used" in operator.told("config", "check")

    for change in (("unset",), ("set", "")):
        said = refused(
            operator,
            *("config", change[0], "models.backup.endpoint", *change[1:]),
            capsys=capsys,
            monkeypatch=monkeypatch,
        )

        assert "backup" in said


def test_what_somebody_else_broke_can_be_taken_out(
    operator: Operator, redis_client: redis.Redis
) -> None:
    redis_client.hset(keys.CONFIG, mapping={"security.qps": "many", "modle.name": "x"})

    operator.told("config", "unset", "modle.name")
    operator.told("config", "unset", "security.qps")

    assert "the settings can be used" in operator.told("config", "check")


def test_operators_commands_work_while_no_program_starts(
    operator: Operator, redis_client: redis.Redis
) -> None:
    """A refused centre is mended by them."""
    redis_client.hset(keys.CONFIG, mapping={"security.qps": "many", "log.level": "ERROR"})

    assert "security.qps: many" in operator.told("config", "list")
    assert "log.level" not in operator.told("config", "show")
    checked = operator.run("config", "check")
    assert checked.exit_code == 2
    assert "security.qps (Redis): must be a whole number" in checked.output
    examined = operator.run("doctor", "--only", "settings", "--json")
    assert examined.exit_code == 0
    assert "security.qps (Redis): must be a whole number" in examined.stdout
    operator.told("config", "unset", "security.qps")
    assert "log.level: ERROR  # Redis" in operator.told("config", "show")


def test_commands_know_the_bots_of_the_watched_file(
    operator: Operator, bench: lanes.Bench, tmp_path: Path
) -> None:
    waiting = lanes.event("oc_1")
    bench.accept(waiting)
    bot = {"platform": "feishu", "app_id": lanes.BOT.app_id, "app_secret": "s1"}
    bot |= {"verification_token": "t1", "encrypt_key": "e1"}
    (tmp_path / "live.yaml").write_text(json.dumps({"bots": {"sales": bot}}))
    unknown = operator.run("trace", waiting.trace_id)
    operator.environ["CLAWDBOT_CONFIG_CENTER__FILE"] = "live.yaml"

    assert unknown.exit_code == 1
    assert operator.json("trace", waiting.trace_id)["bot"] == lanes.BOT.prefix


def test_a_command_says_what_of_the_centre_it_could_not_take_and_goes_on(
    operator: Operator, redis_client: redis.Redis
) -> None:
    redis_client.hset(keys.CONFIG, "security.qps", "many")

    result = operator.run("dead", "list", "--json")

    assert (result.exit_code, result.stdout) == (0, "[]\n")
    assert "not taken from the configuration centre" in result.stderr


def test_nothing_is_set_where_nobody_would_read_it(
    operator: Operator, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.environ["CLAWDBOT_CONFIG_CENTER__REDIS"] = "false"

    said = refused(
        operator, "config", "set", "security.qps", "1", capsys=capsys, monkeypatch=monkeypatch
    )

    assert "nobody would read it" in said
