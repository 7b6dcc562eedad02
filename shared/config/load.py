"""Gathers the values from where they are written, and names every problem at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError

from shared.config.bots import BotBlocks
from shared.config.fields import Group
from shared.config.known import Path, env_name
from shared.config.model_blocks import model_blocks, model_faults
from shared.config.problems import sentences
from shared.config.secret_files import read_secret_files
from shared.config.settings import Settings
from shared.config.sources import CONFIG_FILE, ENV_FILES, Layer, env_layer, read_env_file
from shared.config.vocabulary import Vocabulary
from shared.config.yaml_file import YamlFile
from shared.errors import ConfigError
from shared.platforms import PLATFORMS


def load_settings(
    environ: Mapping[str, str] | None = None, *, cwd: FilePath | None = None
) -> Settings:
    """The settings of `environ` (default: this process's) and of the files in `cwd`.

    Raises:
        ConfigError: with one sentence for every problem there is.
    """
    problems: list[str] = []
    here = cwd or FilePath.cwd()
    layers = _read_layers(os.environ if environ is None else environ, here, problems)
    blocks = BotBlocks.found_in(layers, problems)
    vocabulary = Vocabulary(blocks.platforms, model_blocks(layers, problems))
    given: Layer = {}
    for layer in layers:
        given.update(vocabulary.known_in(layer, problems))
    read_secret_files(given, here, problems)
    settings = _build(given, blocks, problems)
    if problems or settings is None:
        raise ConfigError(problems)
    return settings


def settings_or_exit() -> Settings:
    """`load_settings()`; on problems, one a line on stderr and exit code 2."""
    try:
        return load_settings()
    except ConfigError as error:
        for problem in error.problems:
            print(f"settings: {problem}", file=sys.stderr)
        raise SystemExit(2) from error


def _read_layers(environ: Mapping[str, str], cwd: FilePath, problems: list[str]) -> list[Layer]:
    """What is written in each place, weakest first."""
    files = {shown: read_env_file(cwd / shown, shown, problems) for shown in ENV_FILES}
    variables: dict[str, str] = {}
    for values in (*files.values(), environ):
        variables.update({name: value for name, value in values.items() if value})
    layers = [env_layer(values, shown, problems) for shown, values in files.items()]
    layers.append(env_layer(environ, "environment", problems))
    if file := variables.get(CONFIG_FILE):
        layers.insert(0, YamlFile(cwd / file, variables.get, problems).read())
    return layers


def _build(given: Layer, blocks: BotBlocks, problems: list[str]) -> Settings | None:
    bots = blocks.build(given, problems)
    for block, bot in bots.items():
        problems += _padded_secrets(bot, block)
    values = _nested({p: g.value for p, g in given.items() if not _belongs_to_bot(p)})
    try:
        settings = Settings(
            default_bots={block[0]: bot for block, bot in bots.items() if len(block) == 1},
            bots={block[1]: bot for block, bot in bots.items() if len(block) == 2},
            **values,
        )
    except ValidationError as error:
        problems += sentences(error, Settings, (), given)
        return None
    problems += _padded_secrets(settings, ())
    for name, model in settings.models.items():
        problems += _padded_secrets(model, ("models", name))
    problems += model_faults(settings)
    return settings


def _belongs_to_bot(path: Path) -> bool:
    return path[0] == "bots" or path[0] in PLATFORMS


def _nested(values: Mapping[Path, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, value in values.items():
        branch = tree
        for name in path[:-1]:
            branch = branch.setdefault(name, {})
        branch[path[-1]] = value
    return tree


def _padded_secrets(model: BaseModel, block: Path) -> list[str]:
    """Secrets with the line break of the file they were copied from: they never match."""
    found = []
    for name, value in model:
        if isinstance(value, Group):
            found += _padded_secrets(value, (*block, name))
        elif isinstance(value, tuple) and any(_is_padded(secret) for secret in value):
            found.append(
                f"{env_name((*block, name))} begins or ends with white space; remove it "
                "(a secret copied from a file often ends with a line break)"
            )
    return found


def _is_padded(secret: Any) -> bool:
    return isinstance(secret, SecretStr) and secret.get_secret_value() != (
        secret.get_secret_value().strip()
    )
