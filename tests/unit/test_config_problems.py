"""Settings: each problem names its setting, says what was expected, and repeats no value."""

from __future__ import annotations

import pytest

from shared.config import load_settings
from shared.errors import ConfigError

SECRET = "hush-hush"
FEISHU = {
    "CLAWDBOT_FEISHU__APP_ID": "cli_1",
    "CLAWDBOT_FEISHU__APP_SECRET": "s",
    "CLAWDBOT_FEISHU__ENCRYPT_KEY": "e",
}


def problems_of(folder, environ=None, yaml=None) -> list[str]:
    environ = dict(environ or {})
    if yaml is not None:
        (folder / "c.yaml").write_bytes(yaml if isinstance(yaml, bytes) else yaml.encode())
        environ["CLAWDBOT_CONFIG"] = "c.yaml"
    with pytest.raises(ConfigError) as caught:
        load_settings(environ, cwd=folder)
    return caught.value.problems


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("CLAWDBOT_FEISHU_ENCRYPT_KEY", "CLAWDBOT_FEISHU__ENCRYPT_KEY"),
        ("CLAWDBOT_DINGTALK__APPKEY", "CLAWDBOT_DINGTALK__APP_KEY"),
        ("CLAWDBOT_ENPOINT", "CLAWDBOT_ENDPOINT"),
        ("CLAWDBOT_SECURITY__TRUSTED_PROXY", "CLAWDBOT_SECURITY__TRUSTED_PROXIES"),
        ("CLAWDBOT_PORTS__X", "CLAWDBOT_PORT"),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest_known_one(tmp_path, name, like):
    (problem,) = problems_of(tmp_path, {name: SECRET})

    assert problem == (f"{name} (environment) is not a setting; the nearest known name is {like}")


def test_an_unknown_yaml_name_is_told_as_written_with_its_line(tmp_path):
    (problem,) = problems_of(tmp_path, yaml="port: 1\nasyncProcessing:\n  threadPool: 3\n")

    assert problem.startswith("asyncProcessing.threadPool (")
    assert "c.yaml line 3) is not a setting" in problem
    assert problem.endswith("async_processing.thread_pool_size")


@pytest.mark.parametrize("name", ["CLAWDBOT_SERVICE", "CLAWDBOT_FEISHU", "CLAWDBOT_BOTS"])
def test_a_group_can_not_be_set_as_a_whole(tmp_path, name):
    (problem,) = problems_of(tmp_path, {name: "{}"})

    assert f"{name} (environment) is a group of settings" in problem


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("CLAWDBOT_PORT", "0", "must be at least 1"),
        ("CLAWDBOT_PORT", SECRET, "must be a whole number"),
        ("CLAWDBOT_MODEL__STREAM", SECRET, "must be true or false"),
        ("CLAWDBOT_MODEL__TEMPERATURE", SECRET, "must be a number"),
        ("CLAWDBOT_TASK_TIMEOUT_S", "nan", "must be a finite number"),
        ("CLAWDBOT_MODEL__AUTH", "digest", "must be 'bearer', 'baidu' or 'volcengine'"),
        ("CLAWDBOT_MODEL__AUTH", SECRET, "must be 'bearer'"),
        ("LOG_LEVEL", SECRET, "must be 'DEBUG', 'INFO'"),
        ("CLAWDBOT_ENDPOINT", SECRET, "expected an address like https://"),
        ("CLAWDBOT_ENDPOINT", f"https://[{SECRET}]/v1", "expected an address like https://"),
        ("CLAWDBOT_ENDPOINT", f"https://m:{SECRET}/v1", "expected an address like https://"),
        ("CLAWDBOT_ENDPOINT", f"https://u:{SECRET}@m/v1", "must not carry a user"),
        ("CLAWDBOT_ENDPOINT", f"https://m/v1?k={SECRET}", "must not carry a query"),
        ("CLAWDBOT_PUBLIC_URL", SECRET, "expected an address like https://"),
        ("CLAWDBOT_PUBLIC_URL", f"https://[{SECRET}]", "expected an address like https://"),
        ("CLAWDBOT_PUBLIC_URL", f"https://u:{SECRET}@h", "expected an address like https://"),
        ("CLAWDBOT_PUBLIC_URL", f"https://h/?k={SECRET}", "expected an address like https://"),
        ("CLAWDBOT_REDIS__URL", f"sentinel://:{SECRET}@h", "expected redis://"),
        ("CLAWDBOT_REDIS__URL", f"redis://:{SECRET}@h:port/0", "expected redis://"),
        ("CLAWDBOT_REDIS__URL", f"redis://[{SECRET}]/0", "expected redis://"),
        ("CLAWDBOT_REDIS__URL", f"redis://:{SECRET}@h/db", "expected redis://"),
        ("CLAWDBOT_REDIS__URL", "redis://", "expected redis://"),
        ("CLAWDBOT_REDIS__URL", "unix://", "expected redis://"),
        ("CLAWDBOT_AK_SECRET", f'["{SECRET}"', "starts like a JSON list but is not one"),
        ("CLAWDBOT_AK_SECRET", f"{SECRET}\n", "begins or ends with white space"),
        ("CLAWDBOT_AK_SECRET", "[1]", "must be text"),
        ("CLAWDBOT_ASYNC_PROCESSING__ENABLED", "false", "keeps messages safe"),
    ],
)
def test_a_wrong_value_is_told_by_name_and_expectation_without_the_value(
    tmp_path, name, value, told
):
    (problem,) = problems_of(tmp_path, {name: value})

    assert problem.startswith(name)
    assert told in problem
    assert SECRET not in problem


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"CLAWDBOT_ANSWER_TIMEOUT_S": "4"}, "CLAWDBOT_ANSWER_TIMEOUT_S (environment)"),
        (
            {"CLAWDBOT_TASK_TIMEOUT_S": "90"},
            "CLAWDBOT_ANSWER_TIMEOUT_S: must be at least CLAWDBOT_TASK_TIMEOUT_S (environment)",
        ),
        ({"CLAWDBOT_RETRY__CAP_S": "0.1"}, "must be at least CLAWDBOT_RETRY__BASE_S"),
    ],
)
def test_settings_that_contradict_each_other(tmp_path, environ, told):
    (problem,) = problems_of(tmp_path, environ)

    assert told in problem


def test_five_seconds_for_everything_is_allowed(tmp_path):
    assert load_settings({"CLAWDBOT_ANSWER_TIMEOUT_S": "5"}, cwd=tmp_path).answer_timeout_s == 5


def test_two_names_of_one_setting_with_different_values(tmp_path):
    (problem,) = problems_of(tmp_path, {"LOG_LEVEL": "INFO", "CLAWDBOT_LOG__LEVEL": "DEBUG"})

    assert "LOG_LEVEL (environment)" in problem
    assert "CLAWDBOT_LOG__LEVEL (environment)" in problem


@pytest.mark.parametrize(
    ("yaml", "told"),
    [
        ("LOG_LEVEL: DEBUG\n", "LOG_LEVEL (c.yaml line 1) is called log.level here"),
        ("CLAWDBOT_AK_ID: a\n", "CLAWDBOT_AK_ID (c.yaml line 1) is called service.auth.ak_id here"),
        ("CLAWDBOT_MASTER_KEY: k\n", "is read from the environment alone: set CLAWDBOT_MASTER_KEY"),
        ("LOG_LEVELS: DEBUG\n", "is not a setting; the nearest known name is LOG_LEVEL"),
    ],
)
def test_a_name_of_the_environment_in_yaml_is_told_with_the_one_it_has_there(tmp_path, yaml, told):
    (problem,) = problems_of(tmp_path, yaml=yaml)

    assert told in problem.replace(f"{tmp_path}/", "")


@pytest.mark.parametrize(
    "value", ["*Hush123", "&Hush123 &Hush123 x", "!Hush123!x y", "%Hush123", "@Hush123"]
)
def test_a_value_without_its_quotes_is_not_repeated(tmp_path, value):
    text = " ".join(problems_of(tmp_path, yaml=f"service:\n  auth:\n    akSecret: {value}\n"))

    assert "c.yaml line 3 is not YAML: " in text
    assert "Hush" not in text
    if value[0] == "*":
        assert "`*` begins an alias" in text


@pytest.mark.parametrize(
    ("yaml", "told"),
    [
        ("a: 1\n\tb: 2\n", "c.yaml line 2 is not YAML"),
        ("port: [1\n", "is not YAML"),
        ("port: 1\n---\nport: 2\n", "is not YAML"),
        ("port: &a 1\nhost: *b\n", "c.yaml line 2 is not YAML"),
        ("port: 1\nport: 2\n", "c.yaml line 2: port is written twice"),
        ("taskTimeoutS: 1\ntask_timeout_s: 2\n", "line 2: task_timeout_s is written twice"),
        ("- port\n", "c.yaml line 1: the file must be a mapping"),
        ("just text", "the file must be a mapping"),
        ("[a]: 1\n", "line 1: a setting's name must be plain text"),
        ("service: 5\n", "service ("),
        ("port: {x: 1}\n", "port.x ("),
        ("service: {auth: {akSecret: [{a: b}]}}\n", "must be a list of plain values"),
        ("a: &x {b: *x}\n", "nested too deeply"),
        (b"port: \xff\n", "not UTF-8"),
        (b"port: \x00\n", "holds a character YAML forbids"),
        ("master_key: k\n", "set CLAWDBOT_MASTER_KEY"),
    ],
)
def test_yaml_that_can_not_be_used(tmp_path, yaml, told):
    assert told in problems_of(tmp_path, yaml=yaml)[0]


def test_an_empty_yaml_file_sets_nothing(tmp_path):
    (tmp_path / "c.yaml").write_text("# nothing yet\nservice:\n")

    assert load_settings({"CLAWDBOT_CONFIG": "c.yaml"}, cwd=tmp_path).port == 18789


def test_a_missing_yaml_file(tmp_path):
    (problem,) = problems_of(tmp_path, {"CLAWDBOT_CONFIG": "none.yaml"})

    assert problem.startswith("CLAWDBOT_CONFIG (environment): ")
    assert "none.yaml can't be read: No such file" in problem


@pytest.mark.parametrize("environ", [{}, {"KEY_ID": ""}])
def test_a_reference_to_an_unset_variable(tmp_path, environ):
    (problem,) = problems_of(tmp_path, environ, "service:\n  auth:\n    akId: x${ENV:KEY_ID}\n")

    assert "line 3: service.auth.akId needs the environment variable KEY_ID" in problem


@pytest.mark.parametrize("line", ['CLAWDBOT_AK_SECRET="hush-hush', "CLAWDBOT_AK_ID: hush-hush"])
def test_a_line_of_ours_in_an_env_file_that_can_not_be_read(tmp_path, line):
    (tmp_path / ".env").write_text(f"A=1\n# CLAWDBOT_X\n{line}\nwhat ever\n")

    (problem,) = problems_of(tmp_path)

    assert problem.startswith(".env line 3: CLAWDBOT_AK_")
    assert SECRET not in problem


def test_unknown_names_in_env_files_are_problems_too(tmp_path):
    (tmp_path / ".run").mkdir()
    (tmp_path / ".run/env").write_text("CLAWDBOT_PROT=1\nLOG_FORMAT=theirs\n")

    (problem,) = problems_of(tmp_path)

    assert problem.startswith("CLAWDBOT_PROT (.run/env) is not a setting")


@pytest.mark.parametrize(
    ("without", "told"),
    [
        ("CLAWDBOT_FEISHU__ENCRYPT_KEY", "feishu: CLAWDBOT_FEISHU__ENCRYPT_KEY and "),
        ("CLAWDBOT_FEISHU__APP_SECRET", "feishu: CLAWDBOT_FEISHU__APP_SECRET is missing"),
        ("CLAWDBOT_FEISHU__APP_ID", "CLAWDBOT_FEISHU__APP_ID: is not set, but needed"),
    ],
)
def test_a_bot_that_could_not_work(tmp_path, without, told):
    (problem,) = problems_of(tmp_path, {k: v for k, v in FEISHU.items() if k != without})

    assert problem.startswith(told)


def test_a_bot_without_anything_has_all_its_problems_told(tmp_path):
    found = problems_of(tmp_path, {"CLAWDBOT_DINGTALK__API_BASE": "https://a.example"})

    assert [problem.split()[0] for problem in found] == ["CLAWDBOT_DINGTALK__APP_KEY:", "dingtalk:"]


@pytest.mark.parametrize(
    ("yaml", "told"),
    [
        ("bots: {Sales: {platform: feishu}}", "line 1): a bot's name stands in its webhook's"),
        ("bots: {default: {platform: feishu}}", "line 1): default is the name of"),
        ("bots: {a: {app_id: x}}", "line 1): its platform is not set; set bots.a.platform"),
        ("bots: {a: {platform: feisu}}", "must be one of dingtalk, feishu; the nearest is feishu"),
        ("bots: {a: {platform: [feishu]}}", "must be one of dingtalk, feishu"),
        ("bots: {a: 5}", "bots.a ("),
        ("feishu: {platform: dingtalk}", "feishu.platform ("),
    ],
)
def test_a_bots_block_that_can_not_be_used(tmp_path, yaml, told):
    environ = FEISHU if yaml.startswith("feishu") else {}

    (problem,) = problems_of(tmp_path, environ, yaml)

    assert told in problem


def test_an_unknown_name_in_a_named_bot(tmp_path):
    bot = {f"CLAWDBOT_BOTS__S__{k.rpartition('__')[2]}": v for k, v in FEISHU.items()}
    bot |= {"CLAWDBOT_BOTS__S__PLATFORM": "feishu", "CLAWDBOT_BOTS__S__ENCRYPTKEY": "x"}

    (problem,) = problems_of(tmp_path, bot)

    assert problem.endswith("the nearest known name is CLAWDBOT_BOTS__S__ENCRYPT_KEY")


def test_two_bots_of_one_app(tmp_path):
    bot = {f"CLAWDBOT_BOTS__S__{k.rpartition('__')[2]}": v for k, v in FEISHU.items()}

    (problem,) = problems_of(tmp_path, {**FEISHU, **bot, "CLAWDBOT_BOTS__S__PLATFORM": "feishu"})

    assert problem.startswith("feishu and bots.s are the same feishu app cli_1 (")
    assert "CLAWDBOT_FEISHU__APP_ID (environment), CLAWDBOT_BOTS__S__APP_ID (env" in problem


@pytest.mark.parametrize(
    ("text", "told"),
    [(None, "the file can't be read: No such file"), ("\n", "the file is empty")],
)
def test_a_master_key_file_that_holds_no_key(tmp_path, text, told):
    if text is not None:
        (tmp_path / "master").write_text(text)

    (problem,) = problems_of(tmp_path, {"CLAWDBOT_MASTER_KEY_FILE": "master"})

    assert problem.startswith("CLAWDBOT_MASTER_KEY_FILE (environment)")
    assert told in problem


def test_a_master_key_in_two_places(tmp_path):
    (tmp_path / "master").write_text(SECRET)
    both = {"CLAWDBOT_MASTER_KEY_FILE": "master", "CLAWDBOT_MASTER_KEY": SECRET}

    (problem,) = problems_of(tmp_path, both)

    assert "are both set; keep one of them" in problem
    assert SECRET not in problem


@pytest.mark.parametrize("more", [{}, {"CLAWDBOT_AK_SECRET": SECRET, "CLAWDBOT_MASTER_KEY": "m"}])
def test_an_exchange_without_an_access_key_id(tmp_path, more):
    environ = {"CLAWDBOT_ENDPOINT": "https://m/v2", "CLAWDBOT_MODEL__AUTH": "baidu"}

    (problem,) = problems_of(tmp_path, {**environ, **more})

    label = "CLAWDBOT_MODEL__AUTH (environment)"
    assert problem == f"CLAWDBOT_AK_ID is not set, but needed with {label}: baidu"
