"""What `make up` starts, depending on what is configured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from compose.local.problems import StackError
from compose.local.programs import Plan, embeds_redis, make_plan, with_env_file
from shared.config import Settings, load_settings

SERVER = Path("/opt/redis/bin/redis-server")
DINGTALK = {
    "CLAWDBOT_DINGTALK__APP_KEY": "dingabc",
    "CLAWDBOT_DINGTALK__APP_SECRET": "0123456789abcdef0123",
    "CLAWDBOT_DINGTALK__ROBOT_CODE": "dingabc",
}
FEISHU = {
    "CLAWDBOT_FEISHU__APP_ID": "cli_abc",
    "CLAWDBOT_FEISHU__APP_SECRET": "0123456789abcdef0123",
    "CLAWDBOT_FEISHU__VERIFICATION_TOKEN": "0123456789abcdef0123",
    "CLAWDBOT_FEISHU__ENCRYPT_KEY": "0123456789abcdef0123",
}
MODEL = {"CLAWDBOT_ENDPOINT": "https://model.example/v1", "CLAWDBOT_AK_SECRET": "sk-1234567890"}


def settings(tmp_path: Path, environ: Mapping[str, str]) -> Settings:
    return load_settings(environ, cwd=tmp_path)


def plan(tmp_path: Path, redis: Path | None = SERVER, **environ: str) -> Plan:
    return make_plan(settings(tmp_path, environ), environ, redis)


def commands(of: Plan) -> dict[str, str]:
    return {program.name: " ".join(program.command) for program in of.programs}


def test_without_any_setting_both_platforms_and_the_model_are_simulated(tmp_path: Path) -> None:
    made = plan(tmp_path)

    assert made.simulated == ("dingtalk", "feishu", "model")
    assert "--only dingtalk,feishu,model" in commands(made)["simulator"]


@pytest.mark.parametrize(
    ("environ", "simulated"),
    [
        (DINGTALK, ("feishu", "model")),
        (FEISHU, ("dingtalk", "model")),
        (MODEL, ("dingtalk", "feishu")),
        (DINGTALK | MODEL, ("feishu",)),
    ],
)
def test_what_is_configured_is_not_simulated(
    tmp_path: Path, environ: dict[str, str], simulated: tuple[str, ...]
) -> None:
    made = plan(tmp_path, **environ)

    assert made.simulated == simulated
    assert f"--only {','.join(simulated)}" in commands(made)["simulator"]


def test_named_bot_counts_as_its_platforms_credentials(tmp_path: Path) -> None:
    named = {key.replace("DINGTALK__", "BOTS__SALES__"): value for key, value in DINGTALK.items()}

    made = plan(tmp_path, **named, CLAWDBOT_BOTS__SALES__PLATFORM="dingtalk")

    assert made.simulated == ("feishu", "model")


def test_with_everything_configured_there_is_no_simulator_and_no_port_for_it(
    tmp_path: Path,
) -> None:
    made = plan(tmp_path, **DINGTALK, **FEISHU, **MODEL)

    assert "simulator" not in commands(made)
    assert [port.setting for port in made.ports] == ["CLAWDBOT_PORT", "UP_FLOWER_PORT"]


def test_one_worker_per_stage_with_the_configured_slots(tmp_path: Path) -> None:
    made = commands(plan(tmp_path, CLAWDBOT_ASYNC_PROCESSING__THREAD_POOL_SIZE="7"))

    assert "worker -Q process -P threads -c 7 -n process@%h" in made["worker-process"]
    assert "worker -Q push -P threads -c 7 -n push@%h" in made["worker-push"]


def test_stopping_goes_from_the_ingress_over_the_workers_to_redis(tmp_path: Path) -> None:
    order = {program.name: program.order for program in plan(tmp_path).programs}

    assert order["worker-process"] == order["worker-push"]
    assert order["redis"] < order["simulator"] < order["worker-push"]
    assert order["worker-push"] < order["watcher"] < order["ingress"] == max(order.values())


def test_workers_may_finish_the_longest_that_the_settings_allow(tmp_path: Path) -> None:
    patience = {
        program.name: program.stop_wait_s
        for program in plan(
            tmp_path, CLAWDBOT_ANSWER_TIMEOUT_S="600.5", CLAWDBOT_TASK_TIMEOUT_S="60"
        ).programs
    }

    assert (patience["worker-process"], patience["worker-push"]) == (616, 75)
    assert patience["ingress"] == 10


def test_workers_have_by_default_what_compose_and_the_chart_give_them(tmp_path: Path) -> None:
    patience = {program.name: program.stop_wait_s for program in plan(tmp_path).programs}

    assert (patience["worker-process"], patience["worker-push"]) == (75, 20)


def test_the_whole_stop_is_as_long_as_its_orders_one_after_the_other(tmp_path: Path) -> None:
    ingress = watcher = flower = beat = simulator = 10
    workers, redis = 75, 30

    together = ingress + watcher + flower + beat + workers + simulator + redis
    assert plan(tmp_path).stop_s == together


def test_only_the_ingress_listens_beyond_loopback(tmp_path: Path) -> None:
    made = plan(tmp_path, CLAWDBOT_PORT="1234", UP_FLOWER_PORT="1235", UP_SIMULATOR_PORT="1236")

    assert [(port.setting, port.host, port.number) for port in made.ports] == [
        ("CLAWDBOT_PORT", "0.0.0.0", 1234),
        ("UP_FLOWER_PORT", "127.0.0.1", 1235),
        ("UP_SIMULATOR_PORT", "127.0.0.1", 1236),
    ]
    assert "--address=127.0.0.1 --port=1235" in commands(made)["flower"]
    assert "--host 127.0.0.1 --port 1236" in commands(made)["simulator"]
    assert "--ingress http://127.0.0.1:1234" in commands(made)["simulator"]


def test_ports_that_are_no_settings_are_read_in_the_env_file_too(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("UP_FLOWER_PORT=1235\nUP_SIMULATOR_PORT=1236\n")
    environ = {"UP_FLOWER_PORT": "", "UP_SIMULATOR_PORT": "1237"}

    made = make_plan(settings(tmp_path, {}), with_env_file(tmp_path, environ), SERVER)

    assert [port.number for port in made.ports] == [18789, 1235, 1237]


@pytest.mark.parametrize("text", ["0", "65536", "x", "-1", "٣"])
def test_what_is_no_port_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(StackError, match="UP_FLOWER_PORT="):
        plan(tmp_path, UP_FLOWER_PORT=text)


def test_redis_is_embedded_unless_its_address_is_set(tmp_path: Path) -> None:
    assert embeds_redis(settings(tmp_path, {}))

    (tmp_path / ".env").write_text("CLAWDBOT_REDIS__URL=redis://127.0.0.1:6379/3\n")

    assert not embeds_redis(settings(tmp_path, {}))
    assert "redis" not in commands(plan(tmp_path, redis=None))
