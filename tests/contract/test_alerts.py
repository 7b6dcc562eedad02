"""Alerts speak of metrics that there are, and every one says what to do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from ingress.key_gauges import KeyGauges
from ingress.metrics import Metrics

ROOT = Path(__file__).parents[2]
RULES = ROOT / "helm/clawdbot/files/alerts.yaml"


def rules() -> list[dict[str, Any]]:
    return [
        rule
        for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"]
        for rule in group["rules"]
    ]


def shown() -> set[str]:
    """The names of the samples on /metrics."""
    metrics = Metrics()
    KeyGauges(metrics.registry, ["default"])
    return {
        name + ("_total" if family.type == "counter" else "")
        for family in metrics.registry.collect()
        for name in [family.name]
    }


def test_alerts_ask_for_metrics_that_there_are() -> None:
    asked = {name for rule in rules() for name in re.findall(r"clawdbot_\w+", rule["expr"])}

    assert asked
    assert asked <= shown()


def test_every_alert_says_what_to_do_and_is_explained() -> None:
    explained = (ROOT / "docs/keys.md").read_text("utf-8")

    for rule in rules():
        assert rule["annotations"]["action"]
        assert rule["alert"] in explained
