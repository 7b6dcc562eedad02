"""`clawdbot doctor` on Redis, workers and settings in every state; it ends whatever they do."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from shared.config import load_settings
from shared.state import keys
from tests.integration.doctor import Doctor, Report
from tests.integration.gateway import environ_for
from tests.redis_server import RedisServer, free_port
from workers.limits import time_limits
from workers.ops.doctor.registry import NAMES

PROCESS_WORKER, PUSH_WORKER = "process@h1", "push@h1"


@pytest.fixture
def doctor(
    redis_server: RedisServer,
    redis_client: redis.Redis,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Doctor:
    monkeypatch.chdir(tmp_path)  # no `.env` lies there
    return Doctor(environ_for(redis_server.url))


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


def test_help_tells_bound_and_checks_without_settings(doctor: Doctor) -> None:
    told = doctor.run("--help", PORT="many")

    assert told.exit_code == 0
    assert "Ends after 26 s at the latest" in told.output
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
    assert time.monotonic() - started < 26


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


# --- workers ------------------------------------------------------------------------------------


class Roll:
    """Workers, as they tell of themselves."""

    def __init__(self, client: redis.Redis, environ: dict[str, str], folder: Path) -> None:
        self._client = client
        self._limits = time_limits(load_settings(environ, cwd=folder))

    def seen(
        self, name: str, *queues: str, ago_s: float = 0, idle_s: float = 0, **more: Any
    ) -> None:
        now_ms = int(self._client.time()[0]) * 1000
        facts = {"queues": queues, "pool": "thread", "concurrency": 16, "pid": 4711}
        facts |= {"limits": self._limits, "seen_ms": now_ms - int(ago_s * 1000), **more}
        self._client.hset(keys.WORKERS, name, json.dumps(facts))
        self._client.hset(keys.ACTIVE, name, now_ms - int(idle_s * 1000))


@pytest.fixture
def roll(doctor: Doctor, redis_client: redis.Redis, tmp_path: Path) -> Roll:
    return Roll(redis_client, doctor.environ, tmp_path)


def test_one_worker_for_each_stage_is_well(doctor: Doctor, roll: Roll) -> None:
    roll.seen(PROCESS_WORKER, "process")
    roll.seen(PUSH_WORKER, "push")

    report = doctor.look("workers", "limits")

    assert report.exit_code == 0
    assert report.statuses("workers") == report.statuses("limits") == ["ok", "ok"]


def test_a_stage_without_a_worker_is_told(doctor: Doctor, roll: Roll) -> None:
    roll.seen(PROCESS_WORKER, "process")

    report = doctor.look("workers")

    assert report.exit_code == 1
    finding = report.only("workers", "failed")
    assert "queue push" in finding["seen"]
    assert "celery -A workers worker -Q push" in finding["fix"][0]


def test_no_worker_at_all_is_two_faults(doctor: Doctor) -> None:
    report = doctor.look("workers", "limits")

    assert report.statuses("workers") == ["failed", "failed"]
    assert report.statuses("limits") == ["skipped"]


def test_workers_that_all_serve_both_stages_are_warned_of(doctor: Doctor, roll: Roll) -> None:
    roll.seen("both@h1", "process", "push")
    roll.seen("both@h2", "process", "push")

    report = doctor.look("workers")

    assert report.exit_code == 0
    assert "both@h1, both@h2" in report.only("workers", "warning")["seen"]


def test_a_worker_that_went_silent_is_told(doctor: Doctor, roll: Roll) -> None:
    roll.seen(PROCESS_WORKER, "process")
    roll.seen(PUSH_WORKER, "push")
    roll.seen("process@h2", "process", ago_s=600)

    seen = doctor.look("workers").only("workers", "warning")["seen"]
    assert re.fullmatch(r"process@h2 was last heard of 60\d s ago", seen)


def test_a_worker_that_does_nothing_while_hints_wait_is_told(
    doctor: Doctor, roll: Roll, redis_client: redis.Redis
) -> None:
    roll.seen(PROCESS_WORKER, "process", idle_s=300)
    roll.seen(PUSH_WORKER, "push", idle_s=300)
    redis_client.lpush("process", "a hint")

    finding = doctor.look("workers").only("workers", "warning")

    assert finding["seen"].startswith(PROCESS_WORKER)
    assert "kill -TERM 4711" in finding["fix"]


def test_a_worker_of_other_settings_is_told(doctor: Doctor, roll: Roll) -> None:
    roll.seen(PROCESS_WORKER, "process", pool="prefork")
    roll.seen(PUSH_WORKER, "push", pool="gevent")

    same = doctor.look("limits")
    other = doctor.look("limits", ANSWER_TIMEOUT_S="90")

    assert same.statuses("limits") == ["ok", "ok"]
    assert "process 61 and 63 s" in same.findings("limits")[0]["seen"]
    assert "push 8 s" in same.findings("limits")[1]["seen"]
    assert other.exit_code == 1
    assert PROCESS_WORKER in other.only("limits", "failed")["seen"]


def test_a_worker_of_an_earlier_release_is_not_blamed(doctor: Doctor, roll: Roll) -> None:
    roll.seen(PROCESS_WORKER, "process", limits={})

    assert doctor.look("limits").statuses("limits") == ["ok"]


def test_the_pool_solo_is_warned_of(doctor: Doctor, roll: Roll) -> None:
    roll.seen(PROCESS_WORKER, "process", pool="solo")

    assert "solo" in doctor.look("limits").only("limits", "warning")["seen"]
