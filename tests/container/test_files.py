"""What needs no engine: the files parse, agree with each other and open no door by mistake."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from compose.local.programs import STOP_MARGIN_S
from shared.config import Settings
from tests.container.stack import COMPOSE_FILE, ROOT

CHART = ROOT / "helm" / "clawdbot"
TYPES = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}


def test_only_the_ingress_is_published_beyond_this_machine() -> None:
    services = yaml.safe_load(COMPOSE_FILE.read_text("utf-8"))["services"]
    published = {
        name: port for name, service in services.items() for port in service.get("ports", [])
    }
    assert set(published) == {"ingress", "flower", "simulator", "prometheus", "grafana"}
    del published["ingress"]
    assert all(port.startswith("127.0.0.1:") for port in published.values())


def test_the_ingress_can_be_kept_to_this_machine() -> None:
    (port,) = yaml.safe_load(COMPOSE_FILE.read_text("utf-8"))["services"]["ingress"]["ports"]

    assert port["host_ip"] == "${UP_INGRESS_ADDRESS:-}"
    assert port["published"] == "${CLAWDBOT_PORT:-18789}"


@pytest.mark.parametrize(
    ("service", "default"), [("process", "answer_timeout_s"), ("push", "task_timeout_s")]
)
def test_workers_stop_and_scale_as_told_and_by_default_with_the_defaults(
    service: str, default: str
) -> None:
    worker = yaml.safe_load(COMPOSE_FILE.read_text("utf-8"))["services"][f"worker-{service}"]
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    stop_s = round(getattr(Settings(), default)) + STOP_MARGIN_S

    assert worker["scale"] == f"${{UP_{service.upper()}_WORKERS:-1}}"
    assert worker["stop_grace_period"] == f"${{UP_{service.upper()}_STOP:-{stop_s}s}}"
    assert values[f"worker{service.title()}"]["terminationGracePeriodSeconds"] == stop_s


def test_make_compose_up_hands_on_a_profile_and_arguments() -> None:
    command = ["make", "-n", "--no-print-directory", "compose-up", "PROFILE=watch"]
    command.append("ARGS=--scale redis=0")
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    up = "up -d --build --wait --scale redis=0\n"
    assert told.endswith(f"-f compose/compose.yaml --profile watch {up}")


def test_flower_asks_for_a_password() -> None:
    flower = yaml.safe_load(COMPOSE_FILE.read_text("utf-8"))["services"]["flower"]

    assert flower["command"][:2] == ["clawdbot", "flower"]


def test_what_is_mounted_into_containers_is_there() -> None:
    configs = yaml.safe_load(COMPOSE_FILE.read_text("utf-8"))["configs"]

    assert [
        c["file"] for c in configs.values() if not (COMPOSE_FILE.parent / c["file"]).exists()
    ] == []


@pytest.mark.parametrize("extras", ["", "-tokenizer"])
def test_the_image_finds_the_locks_that_it_may_be_built_from(extras: str) -> None:
    seen = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    dockerfile = (COMPOSE_FILE.parent / "Dockerfile").read_text("utf-8")
    lock = f"requirements/runtime{extras}.lock"

    assert (ROOT / lock).is_file()
    assert f"!{lock}" in seen
    assert "COPY requirements/runtime${EXTRAS:+-$EXTRAS}.lock " in dockerfile


def test_redis_keeps_every_write() -> None:
    redis = yaml.safe_load(COMPOSE_FILE.read_text("utf-8"))["services"]["redis"]["command"]
    options = dict(zip(redis[1::2], redis[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--appendfsync"] == "always"
    assert options["--maxmemory-policy"] == "noeviction"


@pytest.mark.parametrize("name", ["Chart.yaml", "values.yaml"])
def test_the_charts_plain_files_parse(name: str) -> None:
    assert isinstance(yaml.safe_load((CHART / name).read_text("utf-8")), dict)


def test_project_and_chart_have_the_version_that_the_changelog_says() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    newest, *released = re.findall(r"^## \[(.+?)\]", changes, re.M)

    if newest != "Unreleased":
        assert (project["version"], chart["version"]) == (newest, newest)
        return
    assert project["version"].endswith(".dev0")
    assert chart["version"] == chart["appVersion"]
    assert chart["version"] == project["version"].replace(".dev0", "-dev")
    assert project["version"].removesuffix(".dev0") not in released


def test_the_charts_schema_allows_its_values_and_no_others() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    assert not list(_mismatches(values, schema, schema["definitions"], "values"))
    values["ingress"]["replica"] = 2
    assert list(_mismatches(values, schema, schema["definitions"], "values"))


def test_the_charts_templates_use_only_values_that_exist() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    for file in sorted((CHART / "templates").iterdir()):
        for path in _values_used(file):
            branch: Any = values
            for key in path:
                assert key in branch, f"{file.name}: .Values.{'.'.join(path)}"
                branch = branch[key]


def test_the_chart_mounts_what_its_values_name() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    values["volumes"] = [{"name": "live", "configMap": {"name": "clawdbot-live"}}]
    values["volumeMounts"] = [{"name": "live", "mountPath": "/etc/clawdbot"}]

    assert not list(_mismatches(values, schema, schema["definitions"], "values"))
    used = set(map(tuple, _values_used(CHART / "templates/_helpers.tpl")))
    assert {("volumes",), ("volumeMounts",)} <= used


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("HTTPS_PROXY", True),
        ("no_proxy", True),
        ("REQUESTS_CA_BUNDLE", True),
        ("CLAWDBOT_ENDPOINT", False),
        ("LOG_LEVEL", False),
        ("a-b", False),
    ],
)
def test_the_chart_takes_variables_that_are_no_settings(name: str, fits: bool) -> None:
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    values["env"] = {name: "x"}

    assert jsonschema.Draft7Validator(schema).is_valid(values) is fits
    assert ["env"] in _values_used(CHART / "templates/configmap.yaml")


def test_a_secret_of_ones_own_beside_values_that_it_would_drop_is_refused() -> None:
    template = (CHART / "templates/secret.yaml").read_text("utf-8")

    with_own, without = template.split("{{- else }}")
    assert with_own.startswith("{{- if .Values.existingSecret }}")
    assert "{{- if or .Values.redis.url .Values.secrets }}\n{{- fail " in with_own
    assert "kind: Secret" not in with_own
    assert "kind: Secret" in without


def test_the_charts_pods_are_spread_and_go_where_they_are_sent() -> None:
    templates = {file.name: file.read_text("utf-8") for file in (CHART / "templates").iterdir()}
    used = _values_used(CHART / "templates/_helpers.tpl")
    budget = templates["ingress.yaml"].partition("kind: PodDisruptionBudget")[2]

    for name in ("ingress.yaml", "workers.yaml"):
        assert '{{- include "clawdbot.placement" (dict "root" ' in templates[name]
    assert "topologyKey: kubernetes.io/hostname" in templates["_helpers.tpl"]
    for name in ("nodeSelector", "tolerations", "affinity"):
        assert [name] in used
    assert "maxUnavailable: 1" in budget.partition("---")[0]


def test_the_notes_tell_the_doctor_where_the_charts_ingress_is() -> None:
    notes, ingress = (
        (CHART / "templates" / name).read_text("utf-8") for name in ("NOTES.txt", "ingress.yaml")
    )
    name, port = '{{ include "clawdbot.name" . }}-ingress', "{{ .Values.ingress.service.port }}"
    service = ingress.partition("kind: Service")[2]

    assert f"name: {name}\n" in service
    assert f"port: {port}\n" in service
    assert f"-worker-process -- clawdbot doctor --ingress http://{name}:{port}\n" in notes


def _mismatches(value: Any, rule: dict[str, Any], definitions: Any, where: str) -> Any:
    """The part of JSON Schema that the chart uses: types, names, needed names, choices."""
    if "$ref" in rule:
        rule = definitions[rule["$ref"].rpartition("/")[2]]
    if "enum" in rule and value not in rule["enum"]:
        yield f"{where}: not one of {rule['enum']}"
    if "type" in rule and not isinstance(value, TYPES[rule["type"]]):
        yield f"{where}: not of type {rule['type']}"
    if not isinstance(value, dict):
        return
    yield from (
        f"{where}: {name} is missing" for name in rule.get("required", []) if name not in value
    )
    properties = rule.get("properties", {})
    for name, inner in value.items():
        if name in properties:
            yield from _mismatches(inner, properties[name], definitions, f"{where}.{name}")
        elif rule.get("additionalProperties") is False:
            yield f"{where}: {name} is not known"


def _values_used(template: Path) -> list[list[str]]:
    text = template.read_text("utf-8").replace(".root.Values.", ".Values.")
    words = text.replace("$", "").replace("(", " ").replace(")", " ").split()
    return [w.removeprefix(".Values.").split(".") for w in words if w.startswith(".Values.")]
