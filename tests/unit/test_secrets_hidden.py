"""Nothing that holds a secret shows it by being printed: settings, keys, requests, addresses."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import ingress
import shared
import workers
from shared.config import Settings, load_settings
from shared.config.known import known_settings, room_settings
from shared.config.models import NamedModel
from shared.config.redis_url import Sentinels
from shared.config.sources import Given
from shared.http_values import HttpRequest, HttpResponse, RawRequest
from shared.messages import Event, Part, Token
from shared.platforms import PLATFORMS
from shared.state.key_ring import Entry
from workers.keys.pair import KeyPair
from workers.keys.ring_store import Snapshot
from workers.model.keys import ModelKey
from workers.tokens import CachedToken

PLANTED = "pl4nted-s3cret"

_SOUNDS_SECRET = re.compile(r"secret|password|token$|_key$|^url$")
#: Names that sound like secrets and are none: public ids, counts' units, where a secret lies.
_HARMLESS = {"app_key", "master_key_file"}
#: Fields of our dataclasses that hold secrets, or what contains them.
_HOLDS_SECRETS = {
    *("secret", "reply_secret", "password", "bearer", "sealed"),
    *("url", "headers", "body"),
}
#: What reads its settings when it is imported, as Celery wants it.
_NEEDS_SETTINGS = {"workers.celery", "workers.tasks"}


def fields_of(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every setting in `model`, groups opened."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from fields_of(kind, f"{path}{name}.")
        else:
            yield f"{path}{name}", field


def all_settings() -> Iterator[tuple[str, FieldInfo]]:
    for model in (Settings, NamedModel, *map(room_settings, PLATFORMS)):
        yield from fields_of(model, f"{model.__name__}.")


def is_secret(field: FieldInfo) -> bool:
    return "SecretStr" in repr(field.annotation)


def test_a_setting_that_sounds_like_a_secret_is_one() -> None:
    open_ones = [
        path
        for path, field in all_settings()
        if _SOUNDS_SECRET.search(name := path.rpartition(".")[2])
        and name not in _HARMLESS
        and not is_secret(field)
    ]
    assert open_ones == []
    assert sum(is_secret(field) for _, field in all_settings()) >= 9


def planted_settings() -> Settings:
    """Settings in which every secret is the planted one, or holds it."""
    secret_names = {path.rpartition(".")[2] for path, field in all_settings() if is_secret(field)}
    environ = {known.env: PLANTED for known in known_settings() if known.path[-1] in secret_names}
    return load_settings(
        {
            **environ,
            "CLAWDBOT_REDIS__URL": f"sentinel://:{PLANTED}@h1:26379;sentinel://h2:26379",
            "CLAWDBOT_REDIS__MASTER_NAME": "mymaster",
            "CLAWDBOT_DINGTALK__APP_KEY": "ding1",
            "CLAWDBOT_FEISHU__APP_ID": "cli_1",
            "CLAWDBOT_MODELS__OTHER__ENDPOINT": "https://model.example/v1",
            "CLAWDBOT_MODELS__OTHER__AK_SECRET": PLANTED,
        },
        cwd=Path(__file__).parent,
    )


def test_printed_settings_show_no_secret() -> None:
    settings = planted_settings()
    revealed = (
        settings.redis.url.get_secret_value()
        + settings.service.auth.ak_secret[0].get_secret_value()
    )
    assert revealed.count(PLANTED) == 2, "the test plants something"

    shown = [repr(settings), str(settings), settings.model_dump_json(), repr(settings.all_bots())]
    shown += [repr(settings.all_models()), repr(settings.redis.sentinels)]

    assert [text for text in shown if PLANTED in text] == []


HOLDERS: list[Any] = [
    Event("feishu", "cli", "om", "ev", "oc", "hi", reply_secret=PLANTED),
    Part("hi", "key", {}, secret=PLANTED),
    Token(PLANTED, 7200),
    CachedToken(PLANTED, "v1"),
    RawRequest({"sign": PLANTED}, PLANTED.encode()),
    HttpRequest("POST", f"https://h/?session={PLANTED}", {"x": PLANTED}, PLANTED.encode()),
    HttpResponse(200, {"set-cookie": PLANTED}, PLANTED.encode()),
    KeyPair("AK", PLANTED),
    ModelKey("id", PLANTED),
    Entry("id", "active", PLANTED, 1, 2),
    Snapshot(PLANTED, frozenset(), 1),
    Given(PLANTED, "CLAWDBOT_AK_SECRET", "environment"),
    Sentinels.parse(f"sentinel://:{PLANTED}@h1:26379"),
]


@pytest.mark.parametrize("holder", HOLDERS, ids=lambda holder: type(holder).__name__)
def test_a_printed_value_shows_no_secret(holder: Any) -> None:
    assert PLANTED not in f"{holder!r} {holder!s}"


def dataclasses_of_ours() -> Iterator[type]:
    for package in (ingress, shared, workers):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if found.name in _NEEDS_SETTINGS or found.name.endswith("__main__"):
                continue
            module = importlib.import_module(found.name)
            for value in vars(module).values():
                if (
                    isinstance(value, type)
                    and dataclasses.is_dataclass(value)
                    and value.__module__ == found.name
                ):
                    yield value


def test_no_dataclass_shows_a_field_that_may_hold_a_secret() -> None:
    shown = {
        f"{each.__module__}.{each.__name__}.{field.name}"
        for each in dataclasses_of_ours()
        for field in dataclasses.fields(each)
        if field.repr and field.name in _HOLDS_SECRETS
    }
    # The answer to an address check: a stranger's own words.
    assert shown <= {"shared.messages.Challenge.body"}
