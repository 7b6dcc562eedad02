"""Bots' blocks: each platform's default one, and `bots.<name>` whose platform it says itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from shared.config.known import Path, env_name, nearest, room_settings
from shared.config.problems import sentences
from shared.config.settings import DEFAULT_BOT
from shared.config.sources import Layer
from shared.platforms import PLATFORMS
from shared.platforms.settings import BotSettings

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")  # part of the webhook's path


@dataclass(frozen=True, slots=True)
class BotBlocks:
    """The platform of every named bot, by its block's path ("bots", name)."""

    platforms: Mapping[Path, str]

    @classmethod
    def found_in(cls, layers: Iterable[Layer], problems: list[str]) -> BotBlocks:
        """The named bots that have a proper name and a known platform; others are problems."""
        merged = {path: given for layer in layers for path, given in layer.items()}
        blocks = sorted({path[:2] for path in merged if path[0] == "bots" and len(path) > 2})
        found: dict[Path, str] = {}
        for block in blocks:
            fault = _name_fault(block[1]) or _platform_fault(block, merged)
            if fault:
                origin = next(given.origin for p, given in merged.items() if p[:2] == block)
                problems.append(f"{'.'.join(block)} ({origin}): {fault}")
            else:
                found[block] = merged[(*block, "platform")].value
        return cls(found)

    def build(self, given: Layer, problems: list[str]) -> dict[Path, BotSettings]:
        """The settings of every bot, by its block's path; `given` holds known settings alone."""
        blocks = {(name,): name for name in PLATFORMS} | dict(self.platforms)
        built: dict[Path, BotSettings] = {}
        for block, platform in blocks.items():
            values = {path[-1]: g.value for path, g in given.items() if path[:-1] == block}
            if not values.keys() - {"platform"} and block not in self.platforms:
                continue
            bot = _validate(block, {"platform": platform, **values}, given, problems)
            if bot is not None:
                built[block] = bot
        problems += _shared_apps(built, given)
        return built


def _name_fault(name: str) -> str:
    if name == DEFAULT_BOT:
        return f"{DEFAULT_BOT} is the name of a platform's own block; choose another"
    if not _NAME.fullmatch(name):
        return (
            "a bot's name stands in its webhook's path: 1 to 32 of a-z, 0-9, - and _, "
            "the first a letter or digit"
        )
    return ""


def _platform_fault(block: Path, merged: Layer) -> str:
    given = merged.get((*block, "platform"))
    if given is None:
        setting = f"{'.'.join(block)}.platform or {env_name((*block, 'platform'))}"
        return f"its platform is not set; set {setting} to one of {', '.join(PLATFORMS)}"
    if str(given.value) not in PLATFORMS:
        like = nearest(str(given.value), PLATFORMS)
        return f"{given.label} must be one of {', '.join(PLATFORMS)}; the nearest is {like}"
    return ""


def _validate(
    block: Path, values: dict[str, Any], given: Layer, problems: list[str]
) -> BotSettings | None:
    model = room_settings(str(values["platform"] if block[0] == "bots" else block[0]))
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems += sentences(error, model, block, given)
        faults = error.errors(include_input=False)
    missing = [str(fault["loc"][0]) for fault in faults if fault["type"] == "missing"]
    if len(missing) == len(faults):
        problems += _faults_of_the_whole(model, block, {**values, **dict.fromkeys(missing, "-")})
    return None


def _faults_of_the_whole(
    model: type[BotSettings], block: Path, filled: Mapping[str, Any]
) -> list[str]:
    """What pydantic only says once every needed field is there; `filled` has stand-ins."""
    try:
        model.model_validate(filled)
    except ValidationError as error:
        return sentences(error, model, block, {})
    return []


def _shared_apps(built: Mapping[Path, BotSettings], given: Layer) -> list[str]:
    """Two bots of one app would answer every message twice."""
    seen: dict[tuple[str, str], Path] = {}
    found = []
    for block, bot in built.items():
        other = seen.setdefault((bot.platform, bot.bot_id), block)
        if other != block:
            found.append(
                f"{'.'.join(other)} and {'.'.join(block)} are the same {bot.platform} app "
                f"{bot.bot_id} ({_where(other, bot.bot_id, given)}, "
                f"{_where(block, bot.bot_id, given)}); give each bot an app of its own"
            )
    return found


def _where(block: Path, app_id: str, given: Layer) -> str:
    """Where a bot's app id was written, whatever its platform calls it."""
    ids = (g for path, g in given.items() if path[:-1] == block and app_id == str(g.value).strip())
    return next(ids).label
