"""Every value of a `Settings`, flat, by the path of its setting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from shared.config.known import NAMED_BLOCKS, Path
from shared.config.settings import Settings

_NOT_IN_BLOCKS = "platform"  #: a bot's block is found by it; it is no setting of the default bots


def values_of(settings: Settings) -> dict[Path, Any]:
    """The values as they are, secrets included; those of named bots and models, too."""
    found = dict(_flat(settings, ()))
    for platform, bot in settings.default_bots.items():
        found.update(_flat(bot, (platform,)))
        del found[platform, _NOT_IN_BLOCKS]
    for kind, blocks in (("bots", settings.bots), ("models", settings.models)):
        for name, block in blocks.items():
            found.update(_flat(block, (kind, name)))
    return found


def changed(before: Settings, after: Settings) -> tuple[str, ...]:
    """The names, as YAML nests them, of the settings that differ."""
    old, new = values_of(before), values_of(after)
    paths = sorted(old.keys() | new.keys())
    return tuple(".".join(path) for path in paths if old.get(path) != new.get(path))


def _flat(model: BaseModel, prefix: Path) -> Iterator[tuple[Path, Any]]:
    for name, value in model:
        path = (*prefix, name)
        if path in NAMED_BLOCKS:
            continue
        if isinstance(value, BaseModel):
            yield from _flat(value, path)
        elif isinstance(value, Mapping):
            yield from (((*path, str(key)), item) for key, item in value.items())
        else:
            yield path, value
