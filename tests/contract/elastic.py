"""As much of Elasticsearch as our log lines meet: the ingest pipeline and the mapping's types.

Stricter than the real one: there, `ignore_malformed` keeps a line whose field is of a wrong type.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

FILES = Path(__file__).parents[2] / "helm/clawdbot/files/elk"
MAX_TERM_BYTES = 32_766  #: Lucene refuses a document with a longer one
_INTEGERS = {"integer": 31, "long": 63}

Document = dict[str, Any]


def read(name: str) -> Any:
    """A file of the ELK folder."""
    return json.loads((FILES / name).read_text("utf-8"))


def properties() -> dict[str, Any]:
    """The fields of the index template."""
    fields: dict[str, Any] = read("index-template.json")["template"]["mappings"]["properties"]
    return fields


def ingested(line: str) -> Document:
    """The document that Filebeat's JSON parser and the ingest pipeline make of a log line."""
    try:
        document = json.loads(line)
    except ValueError as error:
        document = {"message": line, "error": {"message": str(error), "type": "json"}}
    for processor in read("ingest-pipeline.json")["processors"]:
        ((kind, options),) = processor.items()
        _PROCESSORS[kind](document, options)
    return document


def _date(document: Document, options: Mapping[str, Any]) -> None:
    assert options["if"] == f"ctx.{options['field']} != null"
    assert options["formats"] == ["ISO8601"]
    if (value := document.get(options["field"])) is not None:
        datetime.fromisoformat(value)
        document[options["target_field"]] = value


def _remove(document: Document, options: Mapping[str, Any]) -> None:
    assert options["ignore_missing"]
    document.pop(options["field"], None)


def _set(document: Document, options: Mapping[str, Any]) -> None:
    assert options["override"] is False
    if document.get(options["field"]) is None:
        document[options["field"]] = options["value"]


_PROCESSORS: dict[str, Callable[[Document, Mapping[str, Any]], None]] = {
    "date": _date,
    "remove": _remove,
    "set": _set,
}


def faults(document: Document, fields: Mapping[str, Any], way: str = "") -> Iterator[str]:
    """What Elasticsearch would refuse, or not index, of a document."""
    for name, value in document.items():
        if value is None or name not in fields:
            continue
        rule, path = fields[name], f"{way}{name}"
        if "properties" in rule:
            if isinstance(value, dict):
                yield from faults(value, rule["properties"], f"{path}.")
            else:
                yield f"{path} is {type(value).__name__}, not an object"
            continue
        for item in value if isinstance(value, list) else [value]:
            if not _fits(item, rule):
                yield f"{path} is {item!r}, which is no {rule['type']}"


def unmapped(document: Document, fields: Mapping[str, Any], way: str = "") -> Iterator[str]:
    """The fields that nobody could search for."""
    for name, value in document.items():
        if name not in fields:
            yield f"{way}{name}"
        elif "properties" in fields[name] and isinstance(value, dict):
            yield from unmapped(value, fields[name]["properties"], f"{way}{name}.")


def _fits(value: Any, rule: Mapping[str, Any]) -> bool:
    """Whether a value may stand in a field, without being changed into another type."""
    kind = rule["type"]
    if kind in _INTEGERS:
        return type(value) is int and abs(value) < 2 ** _INTEGERS[kind]
    if kind == "float":
        return type(value) in (int, float)
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "flattened":
        return isinstance(value, dict)
    if not isinstance(value, str):
        return False
    return _fits_text(value, rule)


def _fits_text(value: str, rule: Mapping[str, Any]) -> bool:
    kind = rule["type"]
    try:
        if kind == "date":
            return datetime.fromisoformat(value).tzinfo is not None
        if kind == "ip":
            return bool(ipaddress.ip_address(value))
    except ValueError:
        return False
    assert kind in ("keyword", "text"), kind
    return kind == "text" or "ignore_above" in rule or len(value.encode()) <= MAX_TERM_BYTES
