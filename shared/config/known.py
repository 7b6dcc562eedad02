"""Which settings there are, and what they are called in the environment and in YAML."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import AliasChoices, BaseModel, SecretStr
from pydantic.fields import FieldInfo

from shared.config.settings import Settings
from shared.platforms import PLATFORMS, load
from shared.platforms.settings import BotSettings

Path = tuple[str, ...]

PREFIX = "CLAWDBOT_"
SHORT_NAMES: Mapping[Path, str] = {
    ("service", "auth", "ak_id"): "CLAWDBOT_AK_ID",
    ("service", "auth", "ak_secret"): "CLAWDBOT_AK_SECRET",
    ("service", "auth", "endpoint"): "CLAWDBOT_ENDPOINT",
    ("log", "level"): "LOG_LEVEL",
    ("log", "content"): "LOG_CONTENT",
    ("log", "dir"): "CLAWDBOT_LOG_DIR",
}
#: Not in a YAML file, which is kept and shown where a key must not be.
ENVIRONMENT_ONLY = frozenset({("master_key",)})
#: Run by operators; may hold a secret among other words.
COMMANDS = frozenset({("keys", "generate_command")})

#: Blocks under names that somebody else chose; a bot's platform belongs to its name.
NAMED_BLOCKS = (("models",), ("default_bots",), ("bots",))

_PATHS = {env: path for path, env in SHORT_NAMES.items()}
_CAMEL_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Known:
    """One setting. `default` is as one would write it in the environment, "" for none."""

    path: Path
    default: str
    unit: str
    help: str
    is_secret: bool

    @property
    def env(self) -> str:
        return env_name(self.path)

    @property
    def yaml(self) -> str:
        return "" if self.path in ENVIRONMENT_ONLY else ".".join(self.path)


def known_settings() -> tuple[Known, ...]:
    """Every setting, the platforms' default bots included, in the order of the classes."""
    rooms = (walk(room_settings(platform), (platform,)) for platform in PLATFORMS)
    return (*walk(Settings, ()), *(known for room in rooms for known in room))


def room_settings(platform: str) -> type[BotSettings]:
    """The class of a platform's bots; `platform` is a registered name."""
    found: type[BotSettings] = load(PLATFORMS[platform].settings)
    return found


def walk(model: type[BaseModel], prefix: Path) -> Iterator[Known]:
    """The settings in `model`, groups opened; what has names of its own is left out."""
    for name, field in model.model_fields.items():
        path = (*prefix, name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from walk(field.annotation, path)
        elif path not in NAMED_BLOCKS and name != "platform":
            is_secret = _holds_secrets(field.annotation)
            yield Known(path, _written(field), _unit(field), field.description or "", is_secret)


def aliases(model: type[BaseModel]) -> Mapping[str, str]:
    """Other names of fields, to the fields' own."""
    return {
        choice: name
        for name, field in model.model_fields.items()
        if isinstance(field.validation_alias, AliasChoices)
        for choice in field.validation_alias.choices
        if isinstance(choice, str) and choice != name
    }


def env_name(path: Path) -> str:
    """What the setting at `path` is called in the environment."""
    return SHORT_NAMES.get(path) or PREFIX + "__".join(path).upper()


def env_path(name: str) -> Path:
    """Where a value goes that the environment calls `name` (upper case, CLAWDBOT_ or LOG_)."""
    return _PATHS.get(name) or tuple(name.removeprefix(PREFIX).lower().split("__"))


def snake_case(key: str) -> str:
    """akId -> ak_id."""
    return _CAMEL_HUMP.sub("_", key).lower()


def nearest(name: str, candidates: Iterable[str]) -> str:
    """The candidate most like `name`; what all have in common at the start doesn't count."""
    stripped = {candidate.removeprefix(PREFIX): candidate for candidate in candidates}
    match = difflib.get_close_matches(name.removeprefix(PREFIX), stripped, n=1, cutoff=0.0)
    return stripped[match[0]] if match else ""


def belongs_to_bot(path: Path) -> bool:
    """Whether a setting stands in a bot's block, a platform's default one or a named one."""
    return path[0] == "bots" or path[0] in PLATFORMS


def dotted_path(name: str) -> Path:
    """The path of a setting as YAML would nest it: `model.systemPrompt`, `bots.sales.app_id`."""
    path: Path = ()
    for part in name.strip().split("."):
        path += (part if path in NAMED_BLOCKS else snake_case(part),)
    return path


def _holds_secrets(annotation: Any) -> bool:
    return annotation is SecretStr or any(map(_holds_secrets, get_args(annotation)))


def _unit(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    return str(extra.get("unit", "")) if isinstance(extra, dict) else ""


def _written(field: FieldInfo) -> str:
    value: Any = field.default
    if field.is_required() or value is None or value == ():
        return ""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
