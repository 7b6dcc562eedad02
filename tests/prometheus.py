"""Prometheus's own programs, for tests: from PATH, or as `make prometheus` fetched them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RULES = ROOT / "helm/clawdbot/files/alerts.yaml"
FETCHED = ROOT / ".cache/prometheus/usr/bin"


def program(name: str) -> str:
    """The path of `prometheus` or `promtool`; without one, the test is skipped."""
    found = shutil.which(name) or shutil.which(name, path=FETCHED)
    if found is None:
        pytest.skip(f"{name} is not there: `make prometheus`, or Debian's package prometheus")
    return found
