"""The port of a worker's metrics: the next free one, and no fault that stops a worker."""

from __future__ import annotations

import logging
import os
import re
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.config.groups import Metrics as MetricsSettings
from tests.integration.gateway import environ_for
from tests.prometheus import ROOT
from tests.redis_server import RedisServer, free_port
from tests.unit.test_stage import a_claim
from workers.exposition import PORTS
from workers.measuring import Measuring
from workers.outcomes import Attempt


@pytest.fixture
def first_port() -> int:
    """A free one with free ones behind it."""
    return free_port()


@pytest.fixture
def taken(first_port: int) -> Iterator[int]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", first_port))
        sock.listen()
        yield first_port


def shown_at(host: str = "127.0.0.1", port: int = 0, *, machine: str = "node1") -> str:
    measuring = Measuring(MetricsSettings(host=host, port=port))
    measuring.begin(forks=False)
    return measuring.show(machine)


def test_what_was_counted_is_shown(first_port: int) -> None:
    measuring = Measuring(MetricsSettings(port=first_port))
    measuring.begin(forks=False)
    measuring.metrics.attempted("process", a_claim(), Attempt.DEAD, 0.2)

    address = measuring.show("node1")

    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    assert 'clawdbot_stage_attempts_total{outcome="dead",stage="process"} 1.0' in text
    assert 'clawdbot_stage_attempts_total{outcome="retry",stage="push"} 0.0' in text
    assert "clawdbot_process_cpu_seconds_total" in text


PROGRAM = """
import sys, urllib.request
from workers.celery import worker_process
worker_process.name_worker("push@node1", 2, sys.argv[1])
address = worker_process.measuring.show("node1")
print(urllib.request.urlopen(f"http://{address}/metrics", timeout=10).read().decode())
"""


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_the_messages_of_every_bot_are_there_at_0_before_the_first(
    pool: str, first_port: int, redis_server: RedisServer, tmp_path: Path
) -> None:
    given = environ_for(redis_server.url, METRICS__PORT=str(first_port))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, pool],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), **given},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    for platform in ("dingtalk", "feishu"):
        labels = f'{{bot="default",platform="{platform}"}}'
        assert f"clawdbot_message_seconds_count{labels} 0.0" in done.stdout


def test_workers_of_one_machine_take_one_port_after_the_other(taken: int) -> None:
    addresses = [shown_at(port=taken) for _ in range(3)]

    ports = [int(address.removeprefix("127.0.0.1:")) for address in addresses]
    assert ports == sorted(set(ports))
    assert taken < ports[0]
    assert ports[-1] < taken + PORTS


def test_on_every_address_it_is_told_by_the_machines_name(first_port: int) -> None:
    assert re.fullmatch(r"node1:\d+", shown_at("0.0.0.0", first_port))


def test_port_0_shows_nothing() -> None:
    assert shown_at(port=0) == ""


@pytest.mark.parametrize("host", ["192.0.2.1", "not a host"])
def test_an_address_that_is_not_ours_is_logged_and_stops_nothing(
    host: str, first_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        assert shown_at(host, first_port) == ""

    (record,) = caplog.records
    assert record.message == "metrics.unavailable"
    assert host in record.__dict__["metadata"]["error"]


def test_without_a_free_port_it_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 65_535))
        sock.listen()
        assert shown_at(port=65_535) == ""

    assert "65535" in caplog.records[0].__dict__["metadata"]["error"]
