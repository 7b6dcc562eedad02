"""What alerts and panels ask of Prometheus."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from tests.prometheus import ROOT, RULES

DASHBOARD = ROOT / "helm/clawdbot/files/dashboard.json"

SELECTOR = re.compile(r"\b(clawdbot_\w+|up)\b(?:\{([^}]*)\})?")  #: a metric, its matchers


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text("utf-8"))
    return found


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def panel_queries() -> Iterator[tuple[str, str]]:
    """A title for each query, and its PromQL."""
    for panel in panels():
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"]


def queries() -> list[tuple[str, str]]:
    """Every query of ours, as `panel_queries`."""
    return [(rule["alert"], rule["expr"]) for rule in rules()] + list(panel_queries())


def series_asked_for() -> set[str]:
    """The names of all samples of ours that some query needs."""
    found = {name for _, query in queries() for name, _ in SELECTOR.findall(query)}
    return {name for name in found if name != "up"}


def as_prometheus_gets_it(query: str) -> str:
    """With Grafana's variables filled in."""
    filled = query.replace("$__rate_interval", "1m").replace("$platform", ".*")
    return filled.replace("$bot", ".*")
