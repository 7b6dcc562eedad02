"""Sentences for what pydantic refuses. They never repeat a value: it may be a secret."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ValidationError

from shared.config.known import Path, env_name, env_path
from shared.config.sources import Layer

_EXPECTED: dict[str, Callable[[dict[str, Any]], str]] = {
    "missing": lambda _: "is not set, but needed",
    "greater_than_equal": lambda c: f"must be at least {c['ge']:g}",
    "less_than_equal": lambda c: f"must be at most {c['le']:g}",
    "literal_error": lambda c: f"must be {c['expected']}",
    "string_too_short": lambda _: "must not be empty",
    "value_error": lambda c: str(c["error"]),
    **dict.fromkeys(
        ("int_parsing", "int_type", "int_from_float"), lambda _: "must be a whole number"
    ),
    **dict.fromkeys(("float_parsing", "float_type"), lambda _: "must be a number"),
    "finite_number": lambda _: "must be a finite number",
    **dict.fromkeys(("bool_parsing", "bool_type"), lambda _: "must be true or false"),
    **dict.fromkeys(("tuple_type", "list_type"), lambda _: "must be a value or a JSON list"),
    "string_type": lambda _: "must be text",
}
_ENV_NAME = re.compile(r"\bCLAWDBOT_[A-Z0-9_]+\b")
_SNAKE_NAME = re.compile(r"[a-z]+(?:_[a-z]+)+")


def sentences(
    error: ValidationError, model: type[BaseModel], block: Path, given: Layer
) -> list[str]:
    """One sentence a fault. `block`: where `model` stands; `given`: what was written, by path."""
    faults = error.errors(include_url=False, include_input=False)
    return [_sentence(fault, model, block, given) for fault in faults]


def _sentence(fault: Any, model: type[BaseModel], block: Path, given: Layer) -> str:
    explain = _EXPECTED.get(fault["type"])
    told = _with_origins(explain(fault.get("ctx", {})) if explain else fault["msg"], given)
    names = tuple(part for part in fault["loc"] if isinstance(part, str))
    if not names:
        return f"{'.'.join(block)}: {_full_names(told, model, block)}"
    return f"{label_of((*block, *names), given)}: {told}"


def label_of(path: Path, given: Layer) -> str:
    """What the setting at `path` is called, and where it was written, if it was."""
    for length in range(len(path), 0, -1):
        if path[:length] in given:
            return given[path[:length]].label
    return env_name(path)


def _with_origins(text: str, given: Layer) -> str:
    """Where a sentence names another setting, say where that one was written."""

    def label(name: re.Match[str]) -> str:
        other = given.get(env_path(name.group()))
        return other.label if other else name.group()

    return _ENV_NAME.sub(label, text)


def _full_names(text: str, model: type[BaseModel], block: Path) -> str:
    """A fault of the whole model speaks of its fields by their bare names: make them settings'."""

    def full(word: re.Match[str]) -> str:
        name = word.group()
        return env_name((*block, name)) if name in model.model_fields else name

    return _SNAKE_NAME.sub(full, text)
