"""The bench's own tools: what they count is what happened."""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.cost import cpu_s, memory_mib
from tests.bench.load import shoot, wire
from tests.bench.world import START_TIMEOUT_S, is_open
from tests.e2e.processes import Process, wait_until
from tests.redis_server import free_port

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[int]:
    """The port of a running one."""
    port = free_port()
    command = [sys.executable, "-m", "tests.bench.upstream", "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = Process("upstream", command, directory=tmp_path, environment=environment)
    process.start()
    try:
        wait_until(lambda: is_open(port), START_TIMEOUT_S, "the upstream listens")
        yield port
    finally:
        process.end()


def replies(port: int, reach: int) -> int:
    url = f"http://127.0.0.1:{port}/control/replies?reach={reach}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return int(json.load(answer)["replies"])


def test_upstream_counts_every_reply_that_the_load_sends(upstream: int) -> None:
    reply = wire(("/open-apis/im/v1/messages/om_1/reply", {}, b"{}"))
    shot = shoot(upstream, [reply] * 300, connections=7)
    assert shot.statuses == {200: 300}
    assert replies(upstream, 300) == 300


def test_load_at_a_rate_takes_as_long_as_the_rate_says(upstream: int) -> None:
    reply = wire(("/open-apis/im/v1/messages/om_1/reply", {}, b"{}"))
    shot = shoot(upstream, [reply] * 50, connections=4, rate=100)
    assert shot.seconds > 0.4
    assert shot.percentile_ms(50) <= shot.percentile_ms(99)


def test_refusals_are_an_error(upstream: int) -> None:
    shot = shoot(upstream, [wire(("/nowhere", {}, b""))] * 3, connections=1)
    with pytest.raises(RuntimeError, match="404"):
        shot.must_be_accepted()


def test_model_streams_when_asked_and_answers_whole_otherwise(upstream: int) -> None:
    url = f"http://127.0.0.1:{upstream}/model/v1/chat/completions"
    with urllib.request.urlopen(url, b'{"stream": true}', timeout=10) as answer:
        assert answer.read().endswith(b"data: [DONE]\n\n")
    with urllib.request.urlopen(url, b"{}", timeout=10) as answer:
        assert json.load(answer)["choices"][0]["message"]["content"]


@needs_proc
def test_cpu_and_memory_of_this_very_process_are_seen() -> None:
    assert cpu_s([os.getpid()]) > 0
    assert memory_mib([os.getpid()]) > 5
