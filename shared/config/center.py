"""The configuration centre: values from a watched file and from Redis, put over all others.

Pure: the callers read, `follow.py` the file and each side its Redis. What can't be used changes
nothing; each place keeps the last values that could.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from shared.config.known import (
    COMMANDS,
    Path,
    aliases,
    dotted_path,
    known_settings,
    room_settings,
    walk,
)
from shared.config.live import Live, with_live
from shared.config.load import assemble
from shared.config.models import NamedModel
from shared.config.sources import Given, Layer
from shared.config.values import changed
from shared.config.written import Written
from shared.errors import ConfigError
from shared.platforms import PLATFORMS

Source = Literal["file", "redis"]

SOURCES: tuple[Source, ...] = ("file", "redis")  #: later ones win
REDIS_ORIGIN = "Redis"  #: where its values come from, in sentences

_NOT_IN_REDIS = ("config_center", "master_key_file", "redis")  #: read before Redis is reached


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a place's values; names of settings alone.

    changed: in force now. waiting: in force after a restart. problems: why nothing was taken.
    """

    source: Source
    changed: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


class Center:
    """Puts what the centre says over what is written elsewhere. For one thread at a time."""

    def __init__(self, written: Written) -> None:
        """Raises: ConfigError, when what is written elsewhere can't be used."""
        self._written = written
        self._layers: dict[Source, Layer] = {}
        self.is_running = False
        self.loaded = assemble(written)  #: with which a process would start now
        self.live = Live(self.loaded.settings)

    def begin(self) -> None:
        """The process is built now: from here on only what is live changes."""
        self.is_running = True

    def take(self, source: Source, layer: Layer, problems: Sequence[str] = ()) -> Taken:
        """Put all values of a place in force, instead of those it had before."""
        layers = {**self._layers, source: layer}
        if problems:
            return Taken(source, problems=tuple(problems))
        try:
            loaded = assemble(self._written, *(layers[s] for s in SOURCES if s in layers))
        except ConfigError as error:
            return Taken(source, problems=tuple(error.problems))
        self._layers, self.loaded = layers, loaded
        before, wanted = self.live.settings, loaded.settings
        now = with_live(before, wanted) if self.is_running else wanted
        if now != before:
            self.live.settings = now
        return Taken(source, changed=changed(before, now), waiting=changed(now, wanted))


def redis_layer(values: Mapping[str, str], problems: list[str]) -> Layer:
    """What the hash in Redis says, dotted path to text. An empty text empties the setting."""
    layer: Layer = {}
    for name, value in sorted(values.items()):
        path = dotted_path(name)
        layer[path] = Given(value, name, REDIS_ORIGIN)
        if fault := redis_fault(path):
            problems.append(f"{layer[path].label} {fault}")
    return layer


def redis_fault(path: Path) -> str:
    """Why a setting may not stand in Redis, which others can read and write; "" if it may."""
    if path[0] in _NOT_IN_REDIS:
        return "is needed before Redis is read; set it in the environment or the YAML file"
    if path in COMMANDS:
        return "is a command that operators run; set it in the environment or the YAML file"
    if path[-1] in _secret_names(path[0]):
        return "is a secret, and Redis would hold it in clear text; use a secret file"
    return ""


def _secret_names(block: str) -> set[str]:
    """The last parts of all secrets' names in a block, other names for them included."""
    if block in PLATFORMS or block == "bots":  # a named bot's platform may be said elsewhere
        rooms = [room_settings(platform) for platform in PLATFORMS]
        plain = {known.path[-1] for room in rooms for known in walk(room, ()) if known.is_secret}
        return plain.union(*({o for o, n in aliases(room).items() if n in plain} for room in rooms))
    found = walk(NamedModel, (block,)) if block == "models" else known_settings()
    return {known.path[-1] for known in found if known.is_secret and known.path[0] == block}
