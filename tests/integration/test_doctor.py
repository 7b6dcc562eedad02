"""`clawdbot doctor` on Redis and settings in every state; it ends whatever they do."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from shared.state import keys
from tests.e2e.processes import wait_until
from tests.integration.doctor import Doctor, Report
from tests.integration.slow_server import serving, stall
from tests.redis_server import RedisServer, free_port
from workers.ops.doctor.registry import NAMES


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that a test may kill, freeze or set up wrongly."""
    (tmp_path / "own").mkdir()
    with RedisServer(tmp_path / "own") as server:
        yield server


# --- the command --------------------------------------------------------------------------------


def test_wrong_settings_are_all_named_and_end_with_2(doctor: Doctor) -> None:
    report = doctor.look(PORT="many", SECURITY__QPS="0")
    told = doctor.run(PORT="many", SECURITY__QPS="0")

    assert (report.exit_code, told.exit_code) == (2, 2)
    assert report.statuses("settings") == ["failed", "failed"]
    assert [c["name"] for c in report.value["checks"]] == list(NAMES)
    assert {report.statuses(name)[0] for name in NAMES[1:]} == {"skipped"}
    assert "CLAWDBOT_PORT" in told.output
    assert "CLAWDBOT_SECURITY__QPS" in told.output


def test_an_unknown_check_is_wrong_usage(doctor: Doctor) -> None:
    assert doctor.run("--only", "nonsense").exit_code == 2


@pytest.mark.parametrize("option", ["--ingress", "--flower"])
def test_an_address_without_its_scheme_is_wrong_usage(option: str, doctor: Doctor) -> None:
    told = doctor.run(option, "ingress:18789")

    assert told.exit_code == 2
    assert "http://" in told.output


def test_help_tells_bound_and_checks_without_settings(doctor: Doctor) -> None:
    told = doctor.run("--help", PORT="many")

    assert told.exit_code == 0
    assert "Ends after 29 s at the latest" in told.output
    assert all(name in told.output for name in NAMES)
    assert "Example: clawdbot doctor" in told.output


def test_warnings_do_not_make_it_fail_and_commands_come_when_asked_for(doctor: Doctor) -> None:
    told = doctor.run("--only", "memory")
    with_fixes = doctor.run("--only", "memory", "--fix-hints")

    assert (told.exit_code, with_fixes.exit_code) == (0, 0)
    assert "maxmemory is not set" in told.output
    assert "To do: set maxmemory" in told.output
    assert "redis-cli config set maxmemory" not in told.output
    assert "redis-cli config set maxmemory" in with_fixes.output
    assert "1 warning, 0 failed" in told.output


def test_the_settings_own_warnings_are_findings(doctor: Doctor) -> None:
    report = doctor.look("settings", DINGTALK__SIGNATURE_SCHEME="guide")

    assert "signature_scheme is guide" in report.only("settings", "warning")["seen"]
    assert report.exit_code == 0


def test_what_the_configuration_centre_can_not_say_is_a_warning(
    doctor: Doctor, redis_client: redis.Redis
) -> None:
    redis_client.hset(keys.CONFIG, "security.qps", "many")

    report = doctor.look("settings")

    assert "not taken" in report.only("settings", "warning")["seen"]
    assert report.exit_code == 0


def test_a_centre_that_does_not_answer_is_not_waited_for(doctor: Doctor) -> None:
    started = time.monotonic()
    with serving(stall) as silent:
        url = f"redis://127.0.0.1:{silent.port}/0"
        report = doctor.look("settings", REDIS__URL=url, REDIS__SOCKET_TIMEOUT_S="30")

    assert "could not be read (redis)" in report.only("settings", "warning")["seen"]
    assert time.monotonic() - started < 20


# --- Redis --------------------------------------------------------------------------------------


def assert_redis_away(report: Report, kind: str) -> None:
    assert report.exit_code == 1
    seen = report.only("redis", "failed")["seen"]
    assert kind in seen
    assert "secret-password" not in json.dumps(report.value)
    for check in ("persistence", "memory", "workers", "limits", "keys", "rehearsal"):
        assert set(report.statuses(check)) == {"skipped"}, check


REDIS_CHECKS = (
    "redis",
    "persistence",
    "memory",
    "workers",
    "limits",
    "keys",
    "rehearsal",
    "signatures",
)


def test_without_redis_it_says_so_once_and_looks_at_the_rest(doctor: Doctor) -> None:
    url = f"redis://:secret-password@127.0.0.1:{free_port()}/0"
    report = doctor.look(*REDIS_CHECKS, REDIS__URL=url)

    assert_redis_away(report, "ConnectionError")
    assert set(report.statuses("signatures")) == {"ok"}


def test_a_killed_redis_is_told(doctor: Doctor, own_server: RedisServer) -> None:
    own_server.stop(signal.SIGKILL)
    try:
        assert_redis_away(doctor.look(*REDIS_CHECKS, REDIS__URL=own_server.url), "ConnectionError")
    finally:
        own_server.start()


def test_a_frozen_redis_is_told_in_time(doctor: Doctor, own_server: RedisServer) -> None:
    own_server.send_signal(signal.SIGSTOP)
    started = time.monotonic()
    try:
        report = doctor.look(*REDIS_CHECKS, REDIS__URL=own_server.url)
    finally:
        own_server.send_signal(signal.SIGCONT)

    assert_redis_away(report, "frozen")
    assert time.monotonic() - started < 35


def test_a_redis_that_still_loads_its_file_is_told(doctor: Doctor, tmp_path: Path) -> None:
    def reload() -> None:
        with suppress(redis.RedisError):  # killed before its end
            server.client().execute_command("DEBUG", "RELOAD")

    with RedisServer(tmp_path, "--enable-debug-command", "local") as server:
        client = server.client()
        client.mset({f"key:{n}": n for n in range(20_000)})
        client.config_set("loading-process-events-interval-bytes", 1024)
        client.config_set("key-load-delay", 500)  # µs: 10 s together
        threading.Thread(target=reload, daemon=True).start()
        wait_until(lambda: client.info("persistence")["loading"], 20, "it loads")
        report = doctor.look("redis", REDIS__URL=server.url)

    assert report.exit_code == 1
    assert "loading its file" in report.only("redis", "failed")["seen"]


def test_a_redis_that_answers_and_then_no_more_is_told(
    doctor: Doctor, own_server: RedisServer
) -> None:
    own_server.client().client_pause(60_000, all=False)  # writes wait

    report = doctor.look("redis", REDIS__URL=own_server.url, REDIS__SOCKET_TIMEOUT_S="0.5")

    assert "TimeoutError" in report.only("redis", "failed")["seen"]


def test_a_wrong_password_is_told(doctor: Doctor, own_server: RedisServer) -> None:
    own_server.client().config_set("requirepass", "another-password")
    url = own_server.url.replace("redis://", "redis://:secret-password@")

    report = doctor.look("redis", REDIS__URL=url)

    assert "AuthenticationError" in report.only("redis", "failed")["seen"]
    assert "secret-password" not in json.dumps(report.value)


def test_a_redis_that_keeps_and_limits_what_it_should_is_well(
    doctor: Doctor, own_server: RedisServer
) -> None:
    own_server.client().config_set("maxmemory", 256 * 2**20)

    report = doctor.look("redis", "persistence", "memory", REDIS__URL=own_server.url)

    assert report.exit_code == 0
    for check in ("redis", "persistence", "memory"):
        assert set(report.statuses(check)) == {"ok"}


WRONG_SETUPS = [
    ("appendonly", "no", "persistence", "failed", "no append-only file"),
    ("appendfsync", "everysec", "persistence", "warning", "last 2 s"),
    ("appendfsync", "no", "persistence", "warning", "last half minute"),
    ("maxmemory-policy", "allkeys-lru", "memory", "failed", "unfinished messages"),
    ("maxmemory", "1", "memory", "failed", "refused with 503"),
    ("min-replicas-to-write", "1", "redis", "failed", "refuses to write"),
]


@pytest.mark.parametrize(("name", "value", "check", "status", "words"), WRONG_SETUPS)
def test_a_redis_that_is_set_up_wrongly_is_told(
    name: str,
    value: str,
    check: str,
    status: str,
    words: str,
    doctor: Doctor,
    own_server: RedisServer,
) -> None:
    client = own_server.client()
    if name != "maxmemory":
        client.config_set("maxmemory", 256 * 2**20)
    client.config_set(name, value)

    finding = doctor.look(check, REDIS__URL=own_server.url).only(check, status)

    assert words in json.dumps(finding)
    assert finding["fix"]


def test_a_replica_is_no_place_to_record(
    doctor: Doctor, own_server: RedisServer, redis_server: RedisServer
) -> None:
    client = own_server.client()
    client.replicaof("127.0.0.1", redis_server.port)

    report = doctor.look("redis", REDIS__URL=own_server.url)

    assert {f["seen"] for f in report.findings("redis") if f["status"] == "failed"} == {
        "it is a replica",
        "it refuses to write (ReadOnlyError)",
    }


def test_too_few_replicas_are_told(doctor: Doctor) -> None:
    report = doctor.look("redis", REDIS__WAIT_REPLICAS="1")

    assert "WAIT_REPLICAS is 1" in report.only("redis", "failed")["seen"]
