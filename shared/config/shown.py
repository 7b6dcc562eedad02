"""The settings as people may see them: effective values, secrets hidden, each with its source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from shared.config.known import COMMANDS, Path, env_name
from shared.config.live import is_live
from shared.config.load import Loaded
from shared.config.redis_url import without_login
from shared.config.values import values_of
from shared.logs import HIDDEN, scrub

DEFAULT = "default"  #: the source of what nobody wrote

_PLAIN = (str, int, float, type(None))  #: JSON has them
_ADDRESSES = (("redis", "url"),)  #: may hold a password


@dataclass(frozen=True, slots=True)
class Shown:
    """One setting. value: for JSON. source: where it was written, and there `written_as`."""

    name: str
    env: str
    value: Any
    source: str
    written_as: str
    live: bool


def shown(loaded: Loaded) -> list[Shown]:
    """Every setting, in the order of the classes; bots and models behind them."""
    rows = []
    for path, value in values_of(loaded.settings).items():
        given = loaded.given.get(path)
        rows.append(
            Shown(
                name=".".join(path),
                env=env_name(path),
                value=_masked(path, value),
                source=given.origin if given else DEFAULT,
                written_as=given.name if given else "",
                live=is_live(path),
            )
        )
    return rows


def _masked(path: Path, value: Any) -> Any:
    if isinstance(value, SecretStr):
        return without_login(value.get_secret_value()) if path in _ADDRESSES else HIDDEN
    if isinstance(value, tuple):
        return [_masked(path, item) for item in value]
    if path in COMMANDS:
        return scrub(value)
    return value if isinstance(value, _PLAIN) else str(value)
