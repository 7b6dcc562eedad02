"""Settings: what loads, from where, and what the values are."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.config import Bot, Settings, load_settings, settings_or_exit
from shared.errors import ConfigError

GUIDE = """\
service:
  auth:
    akId: ${ENV:CLAWDBOT_AK_ID}
    akSecret: ${ENV:CLAWDBOT_AK_SECRET}
    endpoint: https://api.example.com/v1
async_processing:
  enabled: true
  thread_pool_size: 16
  queue_capacity: 10000
feishu:
  app_id: cli_guide
  app_secret: ${ENV:FEISHU_SECRET:-from-default}
  verify_token: vt
  encrypt_key: ek
  event_types: [im.message.received_v1]
"""
FEISHU = {
    "CLAWDBOT_FEISHU__APP_ID": "cli_1",
    "CLAWDBOT_FEISHU__APP_SECRET": "s",
    "CLAWDBOT_FEISHU__ENCRYPT_KEY": "e",
}
DINGTALK = {"CLAWDBOT_DINGTALK__APP_KEY": "ding1", "CLAWDBOT_DINGTALK__APP_SECRET": "s"}


def revealed(secrets: tuple) -> list[str]:
    return [secret.get_secret_value() for secret in secrets]


def yaml_env(folder: Path, text: str, **more: str) -> dict[str, str]:
    (folder / "clawdbot.yaml").write_text(text, encoding="utf-8")
    return {"CLAWDBOT_CONFIG": "clawdbot.yaml", **more}


def test_nothing_given_means_the_documented_defaults(tmp_path):
    settings = load_settings({}, cwd=tmp_path)

    assert settings == Settings()
    assert (settings.host, settings.port) == ("0.0.0.0", 18789)
    assert (settings.task_timeout_s, settings.answer_timeout_s) == (5.0, 60.0)
    assert settings.redis.client_url == "redis://127.0.0.1:6379/0"
    assert settings.async_processing.queue_capacity == 10_000
    assert settings.log.level == "INFO"
    assert settings.feishu is None
    assert settings.dingtalk is None
    assert settings.all_bots() == ()


def test_the_guides_yaml_loads_as_it_stands(tmp_path):
    env = yaml_env(tmp_path, GUIDE, CLAWDBOT_AK_ID="id", CLAWDBOT_AK_SECRET="secret, with comma")

    settings = load_settings(env, cwd=tmp_path)

    assert settings.service.auth.ak_id == "id"
    assert revealed(settings.service.auth.ak_secret) == ["secret, with comma"]
    assert settings.service.auth.endpoint == "https://api.example.com/v1"
    assert revealed(settings.feishu.verification_token) == ["vt"]
    assert revealed(settings.feishu.app_secret) == ["from-default"]
    assert revealed(settings.feishu.encrypt_key) == ["ek"]
    assert settings.feishu.event_types == ("im.message.received_v1",)
    assert settings.async_processing.thread_pool_size == 16
    (warning,) = settings.warnings()
    assert "subscribe to that one in the developer console" in warning


def test_stronger_places_win(tmp_path):
    (tmp_path / ".run").mkdir()
    env = yaml_env(tmp_path, "port: 1\nhost: yaml\nsecurity: {qps: 1}\ntask_timeout_s: 4\n")
    (tmp_path / ".env").write_text(
        "CLAWDBOT_PORT=2\nCLAWDBOT_HOST=dotenv\nexport CLAWDBOT_SECURITY__QPS='2'\nOTHER=x\n"
    )
    (tmp_path / ".run/env").write_text("CLAWDBOT_PORT=3\nCLAWDBOT_HOST=run\n")

    settings = load_settings({**env, "CLAWDBOT_PORT": "4"}, cwd=tmp_path)

    assert settings.port == 4
    assert settings.host == "run"
    assert settings.security.qps == 2
    assert settings.task_timeout_s == 4


def test_an_empty_variable_counts_as_unset(tmp_path):
    (tmp_path / ".env").write_text("CLAWDBOT_PORT=2\nCLAWDBOT_HOST=\n")

    settings = load_settings({"CLAWDBOT_PORT": "", "CLAWDBOT_BOGUS": ""}, cwd=tmp_path)

    assert (settings.port, settings.host) == (2, "0.0.0.0")


def test_a_value_of_an_env_file_is_taken_as_written(tmp_path):
    (tmp_path / ".env").write_text('CLAWDBOT_AK_SECRET="a${HOME}b#c"\n')

    settings = load_settings({}, cwd=tmp_path)

    assert revealed(settings.service.auth.ak_secret) == ["a${HOME}b#c"]


def test_env_files_answer_references_in_yaml(tmp_path):
    env = yaml_env(tmp_path, "host: ${ENV:WHERE}.example\nmodel:\n  name: a-${ENV:NONE:-b}-c\n")
    (tmp_path / ".env").write_text("WHERE=here\n")

    settings = load_settings(env, cwd=tmp_path)

    assert settings.host == "here.example"
    assert settings.model.name == "a-b-c"


def test_camel_case_is_accepted_everywhere_in_yaml(tmp_path):
    text = "asyncProcessing: {threadPoolSize: 3}\ntaskTimeoutS: 2\nlog: {level: debug}\n"

    settings = load_settings(yaml_env(tmp_path, text), cwd=tmp_path)

    assert settings.async_processing.thread_pool_size == 3
    assert settings.task_timeout_s == 2
    assert settings.log.level == "DEBUG"


def test_yaml_scalars_are_text_so_secrets_of_digits_keep_their_zeros(tmp_path):
    text = "service: {auth: {akSecret: 0123}}\nport: 8080\nmodel: {stream: no, temperature: ~}\n"

    settings = load_settings(yaml_env(tmp_path, text), cwd=tmp_path)

    assert revealed(settings.service.auth.ak_secret) == ["0123"]
    assert settings.port == 8080
    assert settings.model.stream is False
    assert settings.model.temperature is None


@pytest.mark.parametrize("short", [True, False])
def test_the_short_and_the_long_name_are_one_setting(tmp_path, short):
    names = ["CLAWDBOT_ENDPOINT", "LOG_LEVEL", "CLAWDBOT_LOG_DIR"]
    long = ["CLAWDBOT_SERVICE__AUTH__ENDPOINT", "CLAWDBOT_LOG__LEVEL", "CLAWDBOT_LOG__DIR"]
    values = ["https://m/v1/", "warning", "/var/log/c"]

    settings = load_settings(dict(zip(names if short else long, values, strict=True)), cwd=tmp_path)

    assert settings.service.auth.endpoint == "https://m/v1"
    assert settings.log.level == "WARNING"
    assert settings.log.dir == Path("/var/log/c")


def test_kubernetes_service_links_are_ignored(tmp_path):
    env = {
        "CLAWDBOT_PORT": "tcp://10.0.0.1:18789",
        "CLAWDBOT_SERVICE_HOST": "10.0.0.1",
        "CLAWDBOT_SERVICE_PORT": "18789",
        "CLAWDBOT_SERVICE_PORT_HTTP": "18789",
        "CLAWDBOT_PORT_18789_TCP": "tcp://10.0.0.1:18789",
        "CLAWDBOT_PORT_18789_TCP_PROTO": "tcp",
        "CLAWDBOT_PORT_18789_TCP_PORT": "18789",
        "CLAWDBOT_PORT_18789_TCP_ADDR": "10.0.0.1",
        "CLAWDBOT_INGRESS_SERVICE_HOST": "10.0.0.2",
        "CLAWDBOT_REDIS_MASTER_PORT": "tcp://10.0.0.3:6379",
        "CLAWDBOT_REDIS_MASTER_PORT_6379_TCP": "tcp://10.0.0.3:6379",
    }

    assert load_settings(env, cwd=tmp_path).port == 18789


def test_secrets_in_rotation_are_a_json_list_or_a_yaml_list(tmp_path):
    env = yaml_env(
        tmp_path,
        "service: {auth: {akSecret: [new, old]}}\n",
        CLAWDBOT_MASTER_KEY='["m-new", "m-old"]',
    )

    settings = load_settings(env, cwd=tmp_path)

    assert revealed(settings.service.auth.ak_secret) == ["new", "old"]
    assert revealed(settings.master_key) == ["m-new", "m-old"]


def test_all_bots_are_the_default_ones_and_the_named_ones(tmp_path):
    text = "bots: {shop-1: {platform: dingtalk, appKey: ding2, appSecret: s}}\n"
    env = yaml_env(tmp_path, text, **FEISHU, **DINGTALK)
    env |= {
        "CLAWDBOT_BOTS__SALES__PLATFORM": "feishu",
        "CLAWDBOT_BOTS__SALES__APP_ID": "cli_2",
        "CLAWDBOT_BOTS__SALES__APP_SECRET": "s",
        "CLAWDBOT_BOTS__SALES__VERIFY_TOKEN": "v",
    }

    settings = load_settings(env, cwd=tmp_path)

    assert settings.all_bots() == (
        Bot("default", "dingtalk", "ding1", settings.dingtalk),
        Bot("default", "feishu", "cli_1", settings.feishu),
        Bot("sales", "feishu", "cli_2", settings.bots["sales"]),
        Bot("shop-1", "dingtalk", "ding2", settings.bots["shop-1"]),
    )


def test_settings_never_show_a_secret(tmp_path):
    env = {
        **FEISHU,
        "CLAWDBOT_FEISHU__APP_SECRET": "hush1",
        "CLAWDBOT_AK_SECRET": "hush2",
        "CLAWDBOT_REDIS__URL": "redis://:hush3@h/0",
        "CLAWDBOT_MASTER_KEY": "hush4",
    }

    settings = load_settings(env, cwd=tmp_path)

    assert "hush" not in repr(settings) + str(settings) + settings.model_dump_json()


def test_what_should_not_stay_so_is_a_warning(tmp_path):
    env = {
        **FEISHU,
        "CLAWDBOT_FEISHU__SIGNATURE_SCHEME": "guide",
        "CLAWDBOT_ENDPOINT": "http://model.svc/v1",
        "CLAWDBOT_MASTER_KEY": "short",
        "LOG_CONTENT": "true",
    }

    warnings = "\n".join(load_settings(env, cwd=tmp_path).warnings())

    for expected in ("guide", "CLAWDBOT_ENDPOINT is plain http", "CLAWDBOT_MASTER_KEY", "LOG_CONT"):
        assert expected in warnings
    assert "short" not in warnings


def test_a_proper_setup_has_no_warnings(tmp_path):
    env = {**FEISHU, **DINGTALK, "CLAWDBOT_ENDPOINT": "http://127.0.0.1:9000/v1"}

    assert load_settings(env, cwd=tmp_path).warnings() == []


def test_nothing_configured_warns_of_bot_and_model(tmp_path):
    warnings = "\n".join(load_settings({}, cwd=tmp_path).warnings())

    assert "no bot is configured" in warnings
    assert "CLAWDBOT_ENDPOINT is not set" in warnings


def test_settings_or_exit_prints_a_problem_a_line_and_exits_with_2(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLAWDBOT_PORT", "zero")
    monkeypatch.setenv("CLAWDBOT_HOSTS", "x")

    with pytest.raises(SystemExit) as exit_:
        settings_or_exit()

    assert exit_.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "CLAWDBOT_HOST" in lines[0]


def test_the_process_environment_is_the_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLAWDBOT_PORT", "8081")

    assert load_settings().port == 8081


@pytest.mark.parametrize("name", ["prot", "dingtalks"])
def test_an_attribute_that_is_no_setting_does_not_exist(name):
    with pytest.raises(AttributeError):
        getattr(Settings(), name)


def test_every_problem_is_told_at_once(tmp_path):
    (tmp_path / ".env").write_text("CLAWDBOT_PORT=99999\n")
    env = {"CLAWDBOT_SECURITY__QPS": "many", "CLAWDBOT_FOO": "1", **DINGTALK}
    del env["CLAWDBOT_DINGTALK__APP_SECRET"]

    with pytest.raises(ConfigError) as caught:
        load_settings(env, cwd=tmp_path)

    told = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 4
    assert "CLAWDBOT_PORT (.env): must be at most 65535" in told
    assert "CLAWDBOT_SECURITY__QPS (environment): must be a whole number" in told
    assert "CLAWDBOT_FOO (environment) is not a setting" in told
    assert "CLAWDBOT_DINGTALK__APP_SECRET is missing" in told


@pytest.mark.parametrize(
    ("text", "keys"), [("m-1\n", ["m-1"]), ('["m-2", "m-1"]\n', ["m-2", "m-1"])]
)
def test_the_master_key_may_come_from_a_file(tmp_path, text, keys):
    (tmp_path / "master").write_text(text)

    settings = load_settings({"CLAWDBOT_MASTER_KEY_FILE": "master"}, cwd=tmp_path)

    assert revealed(settings.master_key) == keys


def test_with_a_key_ring_an_exchange_needs_no_pair_in_the_settings(tmp_path):
    environ = {
        "CLAWDBOT_ENDPOINT": "https://m/v2",
        "CLAWDBOT_MODEL__AUTH": "baidu",
        "CLAWDBOT_MASTER_KEY": "m",
    }

    assert load_settings(environ, cwd=tmp_path).model.auth == "baidu"
