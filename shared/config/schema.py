"""A JSON Schema of the YAML file, made of the settings' own classes.

Draft 7, which YAML editors know best. The file's scalars are taken as text (`yaml_file.py`), so a
number may stand in quotes, text may look like a number, and each may be `${ENV:NAME}`. Nothing is
required: it may be written in another place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from shared.config.known import (
    ENVIRONMENT_ONLY,
    NAMED_BLOCKS,
    Path,
    aliases,
    env_name,
    room_settings,
)
from shared.config.models import NamedModel
from shared.config.settings import Settings
from shared.platforms import PLATFORMS

Schema = dict[str, Any]

DRAFT = "http://json-schema.org/draft-07/schema#"

_REFERENCE: Schema = {"type": "string", "pattern": r"\$\{ENV:[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}"}
_SCALAR: Schema = {"type": ["string", "number", "boolean"]}
_SCALARS: Schema = {"anyOf": [_SCALAR, {"type": "array", "items": _SCALAR}]}
_IN_QUOTES = {
    "integer": r"^\s*[+-]?[0-9]+\s*$",
    "number": r"^\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*$",
    # https://docs.pydantic.dev/latest/concepts/conversion_table/
    "boolean": r"^\s*(0|1|[oO][nN]|[oO][fF]{2}|[tT]([rR][uU][eE])?|[fF]([aA][lL][sS][eE])?"
    r"|[yY]([eE][sS])?|[nN][oO]?)\s*$",
}
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_NAMES = "^[a-z0-9][a-z0-9_-]{0,31}$"
_LAST_PARTS = re.compile(r"_([a-z0-9])")


def yaml_schema() -> Schema:
    """For the file that CLAWDBOT_CONFIG or `config_center.file` names."""
    top = _group(Settings, ())
    for platform in PLATFORMS:
        top["properties"][platform] = _group(room_settings(platform), (platform,))
    top["properties"]["bots"] = _named(_any_bot(), "Bots by name; each says its platform.")
    models = _group(NamedModel, ("models", "<name>"))
    top["properties"]["models"] = _named(models, "Models by name, beside the default one.")
    return {"$schema": DRAFT, "title": "ClawdBot's settings", **top}


def _group(model: type[BaseModel], path: Path) -> Schema:
    """A mapping with the model's settings, under each name that is understood."""
    fields = model.model_json_schema(mode="validation", by_alias=False)
    definitions = fields.get("$defs", {})
    properties: Schema = {}
    for name, given in fields["properties"].items():
        place = (*path, name)
        if place in NAMED_BLOCKS or place in ENVIRONMENT_ONLY:
            continue
        inner = model.model_fields[name].annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            properties |= _under_all_names(name, _group(inner, place))
        else:
            properties |= _under_all_names(name, _setting(given, definitions, place))
    for other, name in aliases(model).items():
        properties |= _under_all_names(other, properties[name])
    return {"type": ["object", "null"], "properties": properties, "additionalProperties": False}


def _under_all_names(name: str, schema: Schema) -> Schema:
    """`ak_id` is `akId`, too."""
    camel = _LAST_PARTS.sub(lambda part: part[1].upper(), name)
    return {name: schema, camel: schema}


def _any_bot() -> Schema:
    """By its platform; one that is said elsewhere can't be known here."""
    platforms = sorted(PLATFORMS)
    return {
        "type": ["object", "null"],
        "properties": {"platform": {"anyOf": [{"enum": platforms}, _REFERENCE]}},
        "allOf": [
            {
                "if": {"properties": {"platform": {"const": name}}, "required": ["platform"]},
                "then": _group(room_settings(name), ("bots", "<name>")),
            }
            for name in platforms
        ],
    }


def _named(block: Schema, description: str) -> Schema:
    return {
        "description": description,
        "type": ["object", "null"],
        "patternProperties": {_NAMES: block},
        "additionalProperties": False,
    }


def _setting(given: Schema, definitions: Mapping[str, Schema], path: Path) -> Schema:
    kinds = list(_kinds(given, definitions))
    schema: Schema = {"anyOf": [*kinds, {"type": "null"}]}
    unit = f" [{given['unit']}]" if given.get("unit") else ""
    schema["description"] = f"{given.get('description', '')}{unit} ({env_name(path)})"
    if given.get("default") not in (None, "", []) and not given.get("writeOnly"):
        schema["default"] = given["default"]
    return schema


def _kinds(given: Schema, definitions: Mapping[str, Schema]) -> Iterator[Schema]:
    """What may stand in the file for what the settings' class takes."""
    for kind in given.get("anyOf", [given]):
        if "const" in kind or "enum" in kind:
            yield from _words(kind.get("enum", [kind.get("const")]))
        elif kind["type"] in _IN_QUOTES:
            bounds = {name: kind[name] for name in _BOUNDS if name in kind}
            yield {"type": kind["type"], **bounds}
            yield {"type": "string", "pattern": _IN_QUOTES[kind["type"]]}
            yield _REFERENCE
        elif kind["type"] == "array":
            yield _SCALARS
        elif kind["type"] != "null":
            yield _SCALAR


def _words(words: list[str]) -> Iterator[Schema]:
    """Those in capitals are levels, which may be written in small letters."""
    yield {"enum": [*words, *(word.lower() for word in words if word.isupper())]}
    yield _REFERENCE
