"""Settings that change while processes run: which may, and who holds those in force.

Everything else that changes in the configuration centre waits for the next start.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from pydantic import BaseModel

from shared.config.known import Path, belongs_to_bot
from shared.config.settings import Settings

#: What changes live: a setting, or a group with all that is in it.
LIVE: tuple[Path, ...] = (
    ("log", "level"),
    ("model", "chain"),
    ("model", "system_prompt"),
    ("quotas",),
    ("security",),
)
#: Likewise in the block of every bot.
LIVE_OF_BOTS = ("model_chain", "system_prompt")

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


def is_live(path: Path) -> bool:
    """Whether a change of the setting is in force without a restart."""
    if belongs_to_bot(path):
        return path[-1] in LIVE_OF_BOTS
    return any(path[: len(each)] == each for each in LIVE)


class Live:
    """Holds the settings in force. Read `settings` at each use: one attribute, never half new."""

    __slots__ = ("settings",)

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def derive(self, make: Callable[[Settings], T]) -> Derived[T]:
        """What `make` works out of the settings, made anew when they have changed."""
        return Derived(self, make)


class Derived(Generic[T]):
    """`value` belongs to the settings in force. Costs two attributes while they stay the same."""

    __slots__ = ("_known", "_live", "_make")

    def __init__(self, live: Live, make: Callable[[Settings], T]) -> None:
        self._live = live
        self._make = make
        self._known = (live.settings, make(live.settings))

    @property
    def value(self) -> T:
        settings = self._live.settings
        known_for, value = self._known  # swapped as one: threads at most do the work twice
        if known_for is not settings:
            value = self._make(settings)
            self._known = settings, value
        return value


def with_live(running: Settings, wanted: Settings) -> Settings:
    """`running` with what may change live as in `wanted`.

    A chain that names a model which is not running yet stays as it was, and so does a bot.
    """
    taken = _taken(running, wanted, LIVE)
    if not _is_known_chain(running, wanted.model.chain):
        model = taken.model.model_copy(update={"chain": running.model.chain})
        taken = taken.model_copy(update={"model": model})
    return taken.model_copy(
        update={
            "default_bots": _bots(running, running.default_bots, wanted.default_bots),
            "bots": _bots(running, running.bots, wanted.bots),
        }
    )


def _taken(running: M, wanted: M, paths: Iterable[Path]) -> M:
    """`running` with the values at `paths` of `wanted`."""
    by_name: dict[str, list[Path]] = defaultdict(list)
    for name, *rest in paths:
        by_name[name].append(tuple(rest))
    update = {}
    for name, rests in by_name.items():
        new = getattr(wanted, name)
        update[name] = new if () in rests else _taken(getattr(running, name), new, rests)
    return running.model_copy(update=update)


def _bots(running: Settings, old: Mapping[str, M], new: Mapping[str, M]) -> dict[str, M]:
    bots = {}
    for name, bot in old.items():
        wanted = new.get(name, bot)
        names = [n for n in LIVE_OF_BOTS if _may_take(running, n, getattr(wanted, n))]
        bots[name] = _taken(bot, wanted, [(n,) for n in names])
    return bots


def _may_take(running: Settings, name: str, value: object) -> bool:
    return name != "model_chain" or _is_known_chain(running, value)


def _is_known_chain(running: Settings, chain: object) -> bool:
    return isinstance(chain, tuple) and set(chain) <= running.all_models().keys()
