"""The ELK files agree with each other and with what our code logs; real lines: `tests/e2e`."""

from __future__ import annotations

import ast
import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from ingress.addresses import peer_of
from ingress.refusals import Refusal, _Minute
from shared.logs import LineFormatter
from shared.state.refused import Kind
from tests.contract.elastic import FILES, faults, ingested, properties, read, unmapped
from workers.audit.report import Report
from workers.forgetting import Traces

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs/logs.md").read_text("utf-8")
STREAM = "logs-clawdbot-default"
ERRORS = ["ERROR", "CRITICAL"]
#: How our code calls what it logs: keyword arguments, or dictionaries under these names.
LOGGING_CALLS = ("log", "Line")
AUDIT_CALLS = ("record", "write")
METADATA_NAMES = ("metadata", "facts", "_names")
#: They log nothing themselves, or what they tell stands under `facts`.
NO_LINES = ("logs.py", "steps.py", "explain.py")
#: Facts of the audit trail that their call spreads (`**facts`), by where it stands.
SPREAD = {
    "shared/audit.py": (),  # it hands on what it is given
    "ingress/refusals.py": (*Kind._fields, *_Minute(0.0).summary()),
    "workers/ops/forgetting.py": tuple(each.name for each in fields(Traces)),
    "shared/config/follow.py": ("at_start", "problems", "restart_needed", "settings", "source"),
    "workers/audit/duty.py": tuple(e.name for e in fields(Report) if e.name != "latest"),
}


def line(level: int = logging.INFO, **metadata: Any) -> str:
    record = logging.LogRecord("ingress", level, "", 0, "event.received", (), None)
    record.metadata = metadata
    return LineFormatter("ingress").format(record)


def found(text: str) -> list[str]:
    return list(faults(ingested(text), properties()))


def test_a_line_of_ours_fits_the_template() -> None:
    text = line(platform="feishu", attempt=2, free_s=1.5, passed=False, address="2001:db8::1")

    assert found(text) == []
    document = ingested(text)
    assert document["@timestamp"].endswith("Z")
    assert "timestamp" not in document
    assert list(unmapped(document, properties())) == []


@pytest.mark.parametrize(
    ("metadata", "fault"),
    [
        ({"attempt": "two"}, "metadata.attempt is 'two', which is no integer"),
        ({"attempt": 2.5}, "metadata.attempt is 2.5, which is no integer"),
        ({"attempt": True}, "metadata.attempt is True, which is no integer"),
        ({"attempt": 2**31}, f"metadata.attempt is {2**31}, which is no integer"),
        ({"platform": 7}, "metadata.platform is 7, which is no keyword"),
        ({"platform": "x" * 40_000}, "which is no keyword"),
        ({"platform": {"name": "feishu"}}, "which is no keyword"),
        ({"free_s": "nan"}, "metadata.free_s is 'nan', which is no float"),
        ({"passed": "yes"}, "metadata.passed is 'yes', which is no boolean"),
        ({"facts": "none"}, "metadata.facts is 'none', which is no flattened"),
        ({"address": "somewhere"}, "metadata.address is 'somewhere', which is no ip"),
        ({"parts": [1, "2"]}, "metadata.parts is '2', which is no integer"),
    ],
)
def test_a_wrong_type_is_found(metadata: dict[str, Any], fault: str) -> None:
    (told,) = found(line(**metadata))

    assert told.endswith(fault)


def test_a_wrong_time_and_a_wrong_shape_are_found() -> None:
    fields = properties()

    assert list(faults({"@timestamp": "2026-11-26 02:00:00"}, fields)) != []
    assert list(faults({"metadata": "text"}, fields)) == ["metadata is str, not an object"]


def test_a_field_that_nobody_could_search_for_is_found() -> None:
    document = ingested(line(attempt=1, mood="good"))

    assert list(unmapped(document, properties())) == ["metadata.mood"]


def test_what_is_no_line_of_ours_is_kept_as_text() -> None:
    document = ingested("Fatal Python error: out of luck")

    assert (document["message"], document["level"]) == (
        "Fatal Python error: out of luck",
        "UNKNOWN",
    )
    assert list(faults(document, properties())) == []


def test_every_field_that_our_code_logs_is_in_the_template() -> None:
    known = set(properties()["metadata"]["properties"])
    logged = dict(logged_fields())

    missing = {name: where for name, where in logged.items() if name not in known}
    assert missing == {}, "give them a type in helm/clawdbot/files/elk/index-template.json"
    unused = known - logged.keys() - {"exception", "logger"}  # these two are the formatter's
    assert unused == set()


def test_the_audit_trails_sums_and_lists_fit_the_template() -> None:
    row, counts = {"model": "default", "days": 3.5}, {"10.0.0.1": 2}
    report = Report(
        *("2026-11-16", "2026-11-22", 2, counts, counts, counts, counts, counts, counts),
        *([], [row], counts),
    )
    minute = _Minute(0.0)
    minute.add(Refusal(Kind("feishu", "default", "signature"), peer_of("10.0.0.1")))

    assert found(line(**{k: v for k, v in asdict(report).items() if k != "latest"})) == []
    assert found(line(**minute.summary())) == []


def logged_fields() -> Iterator[tuple[str, str]]:
    """Every name under `metadata` in the source, and where it stands."""
    for package in ("ingress", "workers", "shared"):
        for file in sorted((ROOT / package).rglob("*.py")):
            if file.name in NO_LINES:
                continue
            where = str(file.relative_to(ROOT))
            names_in = _audited if file.parent.name == "ops" else _names_in  # commands print
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                for name in names_in(node):
                    spread = (name,) if name is not None else SPREAD[where]
                    yield from ((each, f"{where}:{node.lineno}") for each in spread)  # type: ignore[attr-defined]


def _audited(node: ast.AST) -> Iterator[str | None]:
    """None: what is spread."""
    if isinstance(node, ast.Call) and _called(node) in AUDIT_CALLS:
        yield from (k.arg for k in node.keywords if k.arg != "level")


def _names_in(node: ast.AST) -> Iterator[str | None]:
    yield from _audited(node)
    if isinstance(node, ast.Call) and _called(node) in LOGGING_CALLS and len(node.args) >= 3:
        yield from (k.arg for k in node.keywords if k.arg not in (None, "error"))  # type: ignore[misc]
    if isinstance(node, ast.Call):
        for keyword in node.keywords:
            if keyword.arg == "extra":
                yield from _extra(keyword.value)
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            yield from _assigned(target, node.value)


def _assigned(target: ast.expr, value: ast.expr | None) -> Iterator[str]:
    if isinstance(target, ast.Subscript) and _name(target.value) in METADATA_NAMES:
        yield ast.literal_eval(target.slice)
    elif _name(target) in METADATA_NAMES and isinstance(value, ast.Dict):
        yield from _keys(value)


def _extra(value: ast.expr) -> Iterator[str]:
    if isinstance(value, ast.Dict):
        for key, inner in zip(value.keys, value.values, strict=True):
            name = ast.literal_eval(key) if key is not None else ""
            if name != "metadata":
                yield name
            elif isinstance(inner, ast.Dict):
                yield from _keys(inner)


def _keys(value: ast.Dict) -> Iterator[str]:
    yield from (ast.literal_eval(key) for key in value.keys if key is not None)


def _called(node: ast.Call) -> str:
    return _name(node.func)


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def test_the_line_in_the_docs_is_one() -> None:
    (sample,) = [each for each in DOCS.splitlines() if each.startswith('{"timestamp"')]

    assert list(json.loads(sample)) == list(json.loads(line()))
    assert list(unmapped(ingested(sample), properties())) == found(sample) == []


# The files among themselves


def test_filebeat_reads_the_log_folder_and_writes_where_the_template_applies() -> None:
    config = yaml.safe_load((FILES / "filebeat.yml").read_text("utf-8"))
    template = read("index-template.json")

    files, *containers = config["filebeat.inputs"]
    assert files["paths"] == ["${CLAWDBOT_LOG_DIR:/var/log/clawdbot}/*.log*"], (
        "also what was turned over"
    )
    assert files["prospector.scanner.exclude_files"] == [r"\.gz$"], "logrotate's"
    assert files["prospector.scanner.fingerprint.enabled"] is False, "9.0 waits for 1024 bytes"
    assert "file_identity.native" in files
    assert len({each["id"] for each in config["filebeat.inputs"]}) == 3
    assert all(each["enabled"].endswith(":false}") for each in containers), "no line comes twice"
    for each in config["filebeat.inputs"]:
        assert each["parsers"][-1]["ndjson"]["target"] == ""
    assert config["output.elasticsearch"]["index"] == STREAM
    assert template["index_patterns"] == ["logs-clawdbot-*"]
    assert template["priority"] > 100, "Elasticsearch's own template for logs-*-* has 100"
    assert template["template"]["settings"]["index"]["default_pipeline"] in DOCS
    assert config["setup.template.enabled"] is False


def test_filebeat_tells_our_lines_by_fields_that_all_have() -> None:
    config = yaml.safe_load((FILES / "filebeat.yml").read_text("utf-8"))
    (drop,) = config["filebeat.inputs"][2]["processors"]

    assert set(drop["drop_event"]["when"]["not"]["has_fields"]) < set(json.loads(line()))


def test_no_secret_stands_in_a_file() -> None:
    config = yaml.safe_load((FILES / "filebeat.yml").read_text("utf-8"))

    assert config["output.elasticsearch"]["api_key"] == "${ELASTICSEARCH_API_KEY:}"


def fields_of(query: Any) -> set[str]:
    """The fields that a query asks for."""
    if isinstance(query, list):
        return {name for each in query for name in fields_of(each)}
    if not isinstance(query, dict):
        return set()
    asked = {str(query["field"])} if "field" in query else set()
    for kind in ("terms", "term", "range"):
        if isinstance(inner := query.get(kind), dict) and "field" not in inner:
            asked |= set(inner)
    return asked | {name for each in query.values() for name in fields_of(each)}


@pytest.mark.parametrize("name", ["errors-last-hour", "error-rate-by-service"])
def test_the_queries_ask_for_fields_that_there_are(name: str) -> None:
    query = read(f"{name}.json")

    assert {"level", "@timestamp"} <= fields_of(query) <= set(properties())
    assert f"helm/clawdbot/files/elk/{name}.json" in DOCS
    assert ERRORS in [each["level"] for each in _all(query, "terms") if "level" in each]
    assert {"gte": "now-1h", "lte": "now"} in [r["@timestamp"] for r in _all(query, "range")]


def _all(value: Any, name: str) -> list[Any]:
    """Every value under `name`, however deep."""
    if isinstance(value, list):
        return [each for item in value for each in _all(item, name)]
    if not isinstance(value, dict):
        return []
    deeper = [each for item in value.values() for each in _all(item, name)]
    return [*([value[name]] if name in value else []), *deeper]


def objects() -> dict[str, dict[str, Any]]:
    lines = (FILES / "kibana.ndjson").read_text("utf-8").splitlines()
    return {each["id"]: each for each in map(json.loads, lines)}


def test_saved_objects_refer_to_each_other() -> None:
    for each in objects().values():
        for reference in each["references"]:
            assert objects()[reference["id"]]["type"] == reference["type"]
    assert objects()["clawdbot-logs"]["attributes"]["title"] == "logs-clawdbot-*"


def test_the_saved_search_finds_the_errors_of_the_last_hour() -> None:
    saved = objects()["clawdbot-errors-last-hour"]["attributes"]
    source = json.loads(saved["kibanaSavedObjectMeta"]["searchSourceJSON"])

    assert source["query"]["query"] == f"level: ({' or '.join(ERRORS)})"
    assert saved["timeRange"] == {"from": "now-1h", "to": "now"}
    columns = {name.partition(".")[0] for name in saved["columns"]}
    assert columns <= set(properties())


def test_the_saved_chart_asks_what_the_query_asks() -> None:
    state = json.loads(objects()["clawdbot-error-rate-by-service"]["attributes"]["visState"])
    spec = json.loads(state["params"]["spec"])
    body = spec["data"]["url"]["body"]

    assert state["type"] == "vega"
    assert body["aggs"] == read("error-rate-by-service.json")["aggs"]
    assert spec["data"]["format"]["property"] == "aggregations.services.buckets"
    assert {"services"} == set(body["aggs"])


@pytest.mark.parametrize("file", sorted(path.name for path in FILES.iterdir()))
def test_every_file_is_explained(file: str) -> None:
    assert file in DOCS
