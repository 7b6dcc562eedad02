"""Makes settings of what is written in all places, and names every problem at once."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, NoReturn

from pydantic import BaseModel, SecretStr, ValidationError

from shared.config.bots import BotBlocks
from shared.config.fields import Group
from shared.config.known import Path, belongs_to_bot
from shared.config.model_blocks import model_blocks, model_faults
from shared.config.problems import label_of, sentences
from shared.config.settings import Settings
from shared.config.sources import Given, Layer
from shared.config.vocabulary import Vocabulary
from shared.config.written import Written, read_written
from shared.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and where each value stands that somebody wrote, by the setting's path."""

    settings: Settings
    given: Mapping[Path, Given] = field(repr=False)


def load_settings(
    environ: Mapping[str, str] | None = None, *, cwd: FilePath | None = None
) -> Settings:
    """The settings of `environ` (default: this process's) and of the files in `cwd`.

    Raises:
        ConfigError: with one sentence for every problem there is.
    """
    return assemble(read_written(environ, cwd=cwd)).settings


def settings_or_exit() -> Settings:
    """`load_settings()`; on problems, one a line on stderr and exit code 2."""
    try:
        return load_settings()
    except ConfigError as error:
        exit_for(error)


def exit_for(error: ConfigError) -> NoReturn:
    """Tell every problem on stderr; exit code 2."""
    for problem in error.problems:
        print(f"settings: {problem}", file=sys.stderr)
    raise SystemExit(2) from error


def assemble(written: Written, *over: Layer) -> Loaded:
    """The settings that are written, with `over` above them, the strongest last. Reads nothing.

    Raises:
        ConfigError: with one sentence for every problem there is.
    """
    problems = list(written.problems)
    layers = [*written.layers, *over]
    blocks = BotBlocks.found_in(layers, problems)
    vocabulary = Vocabulary(blocks.platforms, model_blocks(layers, problems))
    given: Layer = {}
    for layer in layers:
        given.update(vocabulary.known_in(layer, problems))
    settings = _build(given, blocks, problems)
    if problems or settings is None:
        raise ConfigError(problems)
    return Loaded(settings, given)


def _build(given: Layer, blocks: BotBlocks, problems: list[str]) -> Settings | None:
    bots = blocks.build(given, problems)
    for block, bot in bots.items():
        problems += _padded_secrets(bot, block, given)
    values = _nested({p: g.value for p, g in given.items() if not belongs_to_bot(p)})
    try:
        settings = Settings(
            default_bots={block[0]: bot for block, bot in bots.items() if len(block) == 1},
            bots={block[1]: bot for block, bot in bots.items() if len(block) == 2},
            **values,
        )
    except ValidationError as error:
        problems += sentences(error, Settings, (), given)
        return None
    problems += _padded_secrets(settings, (), given)
    for name, model in settings.models.items():
        problems += _padded_secrets(model, ("models", name), given)
    problems += model_faults(settings, given)
    return settings


def _nested(values: Mapping[Path, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, value in values.items():
        branch = tree
        for name in path[:-1]:
            branch = branch.setdefault(name, {})
        branch[path[-1]] = value
    return tree


def _padded_secrets(model: BaseModel, block: Path, given: Layer) -> list[str]:
    """Secrets with the line break of the file they were copied from: they never match."""
    found = []
    for name, value in model:
        if isinstance(value, Group):
            found += _padded_secrets(value, (*block, name), given)
        elif isinstance(value, tuple) and any(_is_padded(secret) for secret in value):
            found.append(
                f"{label_of((*block, name), given)} begins or ends with white space; remove it "
                "(a secret copied from a file often ends with a line break)"
            )
    return found


def _is_padded(secret: Any) -> bool:
    return isinstance(secret, SecretStr) and secret.get_secret_value() != (
        secret.get_secret_value().strip()
    )
