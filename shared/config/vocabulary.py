"""Tells settings from misspelt names, for one set of bots."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from shared.config.known import (
    ENVIRONMENT_ONLY,
    Path,
    aliases,
    env_name,
    env_path,
    known_settings,
    nearest,
    room_settings,
    walk,
)
from shared.config.models import NamedModel
from shared.config.sources import Given, Layer, put
from shared.platforms import PLATFORMS

_NAMED = {"bots": "bots.<name>.platform", "models": "models.<name>.endpoint"}


class Vocabulary:
    """`platforms`: the platform of every bot's block, by the block's path. `models`: blocks."""

    def __init__(self, platforms: Mapping[Path, str], models: Iterable[Path] = ()) -> None:
        self._blocks = {(name,): name for name in PLATFORMS} | dict(platforms)
        self._leaves = {known.path for known in known_settings()}
        for block in models:
            self._leaves |= {known.path for known in walk(NamedModel, block)}
        self._aliases: dict[Path, Path] = {}
        for block, platform in self._blocks.items():
            self._add_bot(block, platform)
        self._groups = {
            ("bots",),
            ("models",),
            *(p[:n] for p in self._leaves for n in range(1, len(p))),
        }

    def _add_bot(self, block: Path, platform: str) -> None:
        room = room_settings(platform)
        self._leaves |= {(*block, "platform"), *(known.path for known in walk(room, block))}
        for other, name in aliases(room).items():
            self._aliases[(*block, other)] = (*block, name)

    def known_in(self, layer: Layer, problems: list[str]) -> Layer:
        """The layer's values under their settings' own paths; the rest become problems."""
        known: Layer = {}
        for path, given in layer.items():
            place = self._aliases.get(path, path)
            if place in self._leaves:
                put(known, place, given, problems)
            if not self._is_to_be_left_alone(place):
                problems.extend(self._faults(place, given))
        return known

    def _is_to_be_left_alone(self, path: Path) -> bool:
        """What is in a bot's block that was refused as a whole."""
        return path[0] == "bots" and len(path) > 2 and path[:2] not in self._blocks

    def _faults(self, path: Path, given: Given) -> Iterator[str]:
        in_environment = given.name.startswith(("CLAWDBOT", "LOG_"))
        meant = env_path(given.name) if in_environment else path
        if meant in ENVIRONMENT_ONLY and not (in_environment and meant == path):
            yield f"{given.label} is read from the environment alone: set {env_name(meant)}"
        elif path in self._groups or (path[0] in ("bots", "models") and len(path) == 2):
            examples = sorted(leaf for leaf in self._leaves if leaf[: len(path)] == path)
            example = _spelled(examples[0], in_environment) if examples else _NAMED[path[0]]
            yield f"{given.label} is a group of settings, not a value; set for instance {example}"
        elif path not in self._leaves and meant in self._leaves:
            yield f"{given.label} is called {'.'.join(meant)} here"
        elif path not in self._leaves:
            leaves = (_spelled(leaf, in_environment) for leaf in sorted(self._leaves))
            like = nearest(given.name if in_environment else ".".join(path), leaves)
            yield f"{given.label} is not a setting; the nearest known name is {like}"


def _spelled(path: Path, in_environment: bool) -> str:
    return env_name(path) if in_environment else ".".join(path)
