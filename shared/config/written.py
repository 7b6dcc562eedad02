"""What is written in all places, read once, weakest first."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath

from shared.config.secret_files import DEFAULT_DIR, read_named_files, read_secret_dirs
from shared.config.sources import (
    CONFIG_FILE,
    ENV_FILES,
    SECRETS_DIR,
    Given,
    Layer,
    env_layer,
    read_env_file,
)
from shared.config.yaml_file import YamlFile

#: Settings that name files, which may lie among the secret ones.
_FILE_SETTINGS = (("master_key_file",), ("config_center", "file"))


@dataclass(frozen=True, slots=True)
class Written:
    """layers: weakest first. variables: they answer `${ENV:NAME}`. problems: of reading.

    here: the folder in which relative names of files begin.
    """

    layers: tuple[Layer, ...] = field(repr=False)
    variables: Mapping[str, str] = field(repr=False)
    problems: tuple[str, ...]
    here: FilePath


def read_written(
    environ: Mapping[str, str] | None = None, *, cwd: FilePath | None = None
) -> Written:
    """Read the environment (default: this process's) and all files, those in `cwd` and others."""
    here = cwd or FilePath.cwd()
    problems: list[str] = []
    places = {shown: read_env_file(here / shown, shown, problems) for shown in ENV_FILES}
    places["environment"] = dict(os.environ if environ is None else environ)
    given = {
        name: Given(value, name, place)
        for place, variables in places.items()
        for name, value in variables.items()
        if value
    }
    variables = {name: each.value for name, each in given.items()}
    layers = [env_layer(values, place, problems) for place, values in places.items()]
    if config := given.get(CONFIG_FILE):
        file = YamlFile(here / config.value, variables.get, problems)
        layers.insert(0, file.read(config.label))
    dirs = _dirs(given.get(SECRETS_DIR), here)
    layers.append(read_secret_dirs(dirs, _named(layers, config, here), problems))
    layers.append(read_named_files(layers, here, problems))
    return Written(tuple(layers), variables, tuple(problems), here)


def _dirs(given: Given | None, here: FilePath) -> Mapping[FilePath, str]:
    """The folders with secret files, by what names them."""
    if given is None:
        return {DEFAULT_DIR: ""} if DEFAULT_DIR.is_dir() else {}
    return {here / name: given.label for name in given.value.split(os.pathsep) if name}


def _named(layers: list[Layer], config: Given | None, here: FilePath) -> set[FilePath]:
    named = [layer[path] for layer in layers for path in _FILE_SETTINGS if path in layer]
    return {(here / str(each.value)).resolve() for each in (*named, *([config] if config else []))}
