"""`clawdbot doctor` on workers, as they tell of themselves in Redis."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import redis

from shared.config import load_settings
from shared.state import keys
from tests.integration.doctor import Doctor
from workers.limits import time_limits

PROCESS_WORKER, PUSH_WORKER = "process@h1", "push@h1"


class Roll:
    """Workers, as they tell of themselves."""

    def __init__(self, client: redis.Redis, environ: dict[str, str], folder: Path) -> None:
        self._client = client
        self._environ, self._folder = environ, folder
        self.restarted_with()

    def restarted_with(self, **changes: str) -> None:
        changed = {f"CLAWDBOT_{name}": value for name, value in changes.items()}
        settings = load_settings({**self._environ, **changed}, cwd=self._folder)
        self._limits = time_limits(settings)

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
    finding = report.only("workers", "warning")
    assert finding["seen"].startswith("every worker of process and push serves both stages")
    assert "both@h1, both@h2" in finding["seen"]
    assert len(finding["fix"]) == 2


@pytest.mark.parametrize(("own", "other"), [("process", "push"), ("push", "process")])
def test_a_stage_that_has_only_shared_workers_is_warned_of(
    doctor: Doctor, roll: Roll, own: str, other: str
) -> None:
    roll.seen("own@h1", own)
    roll.seen("both@h1", "process", "push")
    roll.seen("gone@h1", other, ago_s=600)

    report = doctor.look("workers")

    warnings = [f for f in report.findings("workers") if f["status"] == "warning"]
    (finding,) = [f for f in warnings if "gone@h1" not in f["seen"]]
    assert finding["seen"] == f"every worker of {other} serves both stages: both@h1"
    (command,) = finding["fix"]
    assert f"-Q {other} " in command


def test_a_shared_worker_beside_one_for_each_stage_is_well(doctor: Doctor, roll: Roll) -> None:
    roll.seen(PROCESS_WORKER, "process")
    roll.seen(PUSH_WORKER, "push")
    roll.seen("both@h1", "process", "push")

    assert doctor.look("workers").statuses("workers") == ["ok"] * 3


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
    assert "process 61.5 and 65.5 s" in same.findings("limits")[0]["seen"]
    assert "push 10.5 s" in same.findings("limits")[1]["seen"]
    assert other.exit_code == 1
    assert PROCESS_WORKER in other.only("limits", "failed")["seen"]


def test_what_the_configuration_centre_says_counts(
    doctor: Doctor, roll: Roll, redis_client: redis.Redis
) -> None:
    roll.seen(PROCESS_WORKER, "process")
    redis_client.hset(keys.CONFIG, "answer_timeout_s", "90")
    before = doctor.look("settings", "limits")
    roll.restarted_with(ANSWER_TIMEOUT_S="90")
    roll.seen(PROCESS_WORKER, "process")
    after = doctor.look("limits")

    assert before.statuses("settings") == ["ok"]
    assert before.statuses("limits") == ["failed"]
    assert after.statuses("limits") == ["ok"]


def test_a_worker_of_an_earlier_release_is_not_blamed(doctor: Doctor, roll: Roll) -> None:
    roll.seen(PROCESS_WORKER, "process", limits={})

    assert doctor.look("limits").statuses("limits") == ["ok"]


def test_the_pool_solo_is_warned_of(doctor: Doctor, roll: Roll) -> None:
    roll.seen(PROCESS_WORKER, "process", pool="solo")

    assert "solo" in doctor.look("limits").only("limits", "warning")["seen"]
