"""Alerts and panels speak of metrics that there are; promtool runs every rule on made-up series."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.cli import COMMANDS
from shared.metrics import TABLE, Metric
from tests.prometheus import ROOT, RULES, program
from tests.queries import (
    SELECTOR,
    as_prometheus_gets_it,
    dashboard,
    panel_queries,
    panels,
    queries,
    rules,
    series_asked_for,
)

CASES = sorted((ROOT / "tests/alerts").glob("*.yaml"))
DOCS = ROOT / "docs/observability.md"
SERIES = {name: metric for metric in TABLE for name in metric.series}
#: Labels that Prometheus itself gives, to targets.
TARGET_LABELS = {"job", "instance"}
#: A command of the doctor's own, beside those of `COMMANDS`.
DOCTOR = "doctor"

_GROUPED = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
_MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"")
_ACTION = re.compile(r"clawdbot (\w+)|celery -A workers \w+|developer console")


def variables() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = dashboard()["templating"]["list"]
    return found


@pytest.mark.parametrize(("title", "query"), queries(), ids=[title for title, _ in queries()])
def test_a_query_names_metrics_and_labels_of_the_table(title: str, query: str) -> None:
    asked = SELECTOR.findall(query)
    labels = set(TARGET_LABELS)

    assert asked
    for name, matchers in asked:
        known = {"job", "instance"} if name == "up" else set(SERIES[name].sample_labels)
        labels |= known
        assert set(_MATCHER.findall(matchers)) <= known | TARGET_LABELS, title
    for group in _GROUPED.findall(query):
        assert {label.strip() for label in group.split(",") if label.strip()} <= labels, title


def test_docs_list_every_metric_as_the_table_has_it() -> None:
    listed = re.findall(r"^\| `(clawdbot_\w+)` \| (.*) \|$", DOCS.read_text("utf-8"), re.M)

    assert dict(listed) == {metric.name: documented(metric) for metric in TABLE}


def documented(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels) or "–"
    unit = metric.unit or "–"
    return f"{metric.kind} | {unit} | {labels} | {metric.shown_by} | {metric.help}"


def test_every_metric_is_used_in_an_alert_or_a_panel() -> None:
    used = series_asked_for()

    assert [metric.name for metric in TABLE if not used & set(metric.series)] == []


def test_every_alert_says_what_to_do_and_is_explained() -> None:
    explained = DOCS.read_text("utf-8")

    for rule in rules():
        action = _ACTION.search(rule["annotations"]["action"])
        assert action, rule["alert"]
        assert action[1] is None or action[1] in {*COMMANDS, DOCTOR}
        assert rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["alert"] in explained


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    fires, stays_silent = set(), set()
    for file in CASES:
        for case in yaml.safe_load(file.read_text("utf-8"))["tests"]:
            for check in case["alert_rule_test"]:
                (fires if check["exp_alerts"] else stays_silent).add(check["alertname"])

    assert fires == stays_silent == {rule["alert"] for rule in rules()}


def test_promtool_takes_the_rules() -> None:
    told = promtool("check", "rules", str(RULES))

    assert f"{len(rules())} rules found" in told


@pytest.mark.parametrize("cases", CASES, ids=lambda file: file.stem)
def test_alerts_fire_when_they_should_and_only_then(cases: Path) -> None:
    assert "SUCCESS" in promtool("test", "rules", str(cases))


def test_promtool_takes_every_query_of_the_dashboard(tmp_path: Path) -> None:
    """As rules, because promtool of today parses no bare query."""
    recorded = [
        {"record": f"panel:{number}", "expr": as_prometheus_gets_it(query)}
        for number, (_, query) in enumerate(panel_queries())
    ]
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))

    assert f"{len(recorded)} rules found" in promtool("check", "rules", str(file))


def test_promtool_takes_the_example_configuration(tmp_path: Path) -> None:
    for file in (RULES, ROOT / "compose/prometheus.yml"):
        shutil.copy(file, tmp_path)

    assert "SUCCESS" in promtool("check", "config", str(tmp_path / "prometheus.yml"))


def test_every_panel_has_a_title_a_unit_and_the_chosen_source() -> None:
    for panel in panels():
        assert panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["description"], panel["title"]


def test_panels_do_not_overlap_and_have_ids_of_their_own() -> None:
    every = dashboard()["panels"]
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in every)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len({panel["id"] for panel in every}) == len(every)
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


def test_the_dashboard_chooses_platform_and_bot() -> None:
    by_name = {variable["name"]: variable for variable in variables()}

    assert set(by_name) == {"datasource", "platform", "bot"}
    for name in ("platform", "bot"):
        asked = by_name[name]["query"]["query"]
        metric, label = re.fullmatch(r"label_values\((\w+)(?:\{.*\})?, (\w+)\)", asked).groups()  # type: ignore[union-attr]
        assert label in SERIES[metric].labels


def promtool(*arguments: str) -> str:
    done = subprocess.run(
        [program("promtool"), *arguments], capture_output=True, text=True, timeout=100, check=False
    )
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    return told
