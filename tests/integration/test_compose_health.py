"""The health check of Compose's workers: whether they live, whatever else `/ready` has to say."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.integration.slow_server import sending, serving
from tests.integration.test_doctor_network import http

COMPOSE_FILE = Path(__file__).parents[2] / "compose" / "compose.yaml"
INGRESS = "http://ingress:18789"
WORKERS = {"workers": {"process": [f"process@{socket.gethostname()}"], "push": []}}


@pytest.mark.parametrize(
    ("status", "body", "is_healthy"),
    [
        ("200 OK", WORKERS, True),
        ("503 Service Unavailable", WORKERS, True),
        ("200 OK", {"workers": {"process": ["process@another"], "push": []}}, False),
        ("503 Service Unavailable", {"reasons": ["redis: TimeoutError"]}, False),
    ],
    ids=["ready", "full", "away", "unknown"],
)
def test_a_worker_is_healthy_while_it_lives(status: str, body: object, is_healthy: bool) -> None:
    services = yaml.safe_load(COMPOSE_FILE.read_text(encoding="utf-8"))["services"]
    *_, program = services["worker-process"]["healthcheck"]["test"]
    assert INGRESS in program

    with serving(sending(http(status, json.dumps(body)))) as server:
        program = program.replace(INGRESS, f"http://127.0.0.1:{server.port}")
        done = subprocess.run([sys.executable, "-c", program], check=False, timeout=60)

    assert (done.returncode == 0) is is_healthy
