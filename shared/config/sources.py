"""Where values are written: the environment and the two env files.

YAML: `yaml_file.py`; secret files: `secret_files.py`; all of them in their order: `written.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from dotenv import dotenv_values

from shared.config.known import PREFIX, Path, env_path

CONFIG_FILE = "CLAWDBOT_CONFIG"  #: says where the YAML file is; not itself a setting
SECRETS_DIR = "CLAWDBOT_SECRETS_DIR"  #: likewise, of the folders with secret files
ENV_FILES = (".env", ".run/env")  #: later ones win

_OUR_LINE = re.compile(r"^[ \t]*(?:export[ \t]+)?((?:CLAWDBOT_|LOG_LEVEL|LOG_CONTENT)\w*)", re.M)
_LOG_NAMES = ("LOG_LEVEL", "LOG_CONTENT")
# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_SERVICE_LINK = re.compile(
    r"CLAWDBOT(_[A-Z0-9]+)*_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9]+)*"
    r"|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://")


@dataclass(frozen=True, slots=True)
class Given:
    """A value somebody wrote: `name` as written there, `origin` for a sentence ("in .env")."""

    value: Any = field(repr=False)
    name: str
    origin: str

    @property
    def label(self) -> str:
        return f"{self.name} ({self.origin})"


Layer = dict[Path, Given]


def read_env_file(file: FilePath, shown: str, problems: list[str]) -> dict[str, str]:
    """The variables of an env file, values exactly as written; empty when there is no file."""
    if not file.is_file():
        return {}
    try:
        text = file.read_text(encoding="utf-8")
        values = dotenv_values(file, interpolate=False, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{shown} can't be read ({type(error).__name__}); make it readable UTF-8")
        return {}
    problems += [
        f"{shown} line {text.count(chr(10), 0, line.start(1)) + 1}: {line.group(1)} is not "
        "written as NAME=value; is a quote left open?"
        for line in _OUR_LINE.finditer(text)
        if line.group(1) not in values
    ]
    return {name: value for name, value in values.items() if value}


def env_layer(variables: Mapping[str, str], origin: str, problems: list[str]) -> Layer:
    """Our settings among `variables`. An empty value counts as unset."""
    layer: Layer = {}
    for name, value in sorted(variables.items()):
        if value and _is_ours(name, value):
            put(layer, env_path(name), Given(value, name, origin), problems)
    return layer


def put(layer: Layer, path: Path, given: Given, problems: list[str]) -> None:
    """Add a value; two names of one setting in the same place must agree."""
    earlier = layer.setdefault(path, given)
    if earlier.value != given.value:
        problems.append(
            f"{given.label} and {earlier.label} are the same setting with different values; "
            "keep one of them"
        )


def otherwise(before: Layer, now: Layer) -> list[str]:
    """The dotted names of what one says and the other doesn't, or says otherwise."""
    values = [{path: given.value for path, given in layer.items()} for layer in (before, now)]
    paths = sorted(before.keys() | now.keys())
    return [".".join(path) for path in paths if values[0].get(path) != values[1].get(path)]


def _is_ours(name: str, value: str) -> bool:
    if name in _LOG_NAMES:
        return True
    if not name.startswith(PREFIX) or name in (CONFIG_FILE, SECRETS_DIR):
        return False
    return not _is_service_link(name, value)


def _is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes put the variable there because a Service is called clawdbot-something."""
    if _SERVICE_LINK.fullmatch(name):
        return True
    return name.endswith("_PORT") and _SERVICE_ADDRESS.match(value) is not None
