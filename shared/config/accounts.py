"""Which models are called on one account: those with the same endpoint and key.

An endpoint counts calls by account, not by model, so such models share their slots.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from pydantic import SecretStr

from shared.config.models import DEFAULT_MODEL, NamedModel


class Account(NamedTuple):
    """`name`: that of the first of its `models`, the same in every process.

    limit: calls at once; 0: no limit.
    """

    name: str
    models: tuple[str, ...]
    limit: int


def accounts(models: Mapping[str, NamedModel]) -> Iterator[Account]:
    """All of them. A model without a limit has that of the others of its account."""
    groups: dict[tuple[str | SecretStr, ...], list[str]] = {}
    for name in sorted(models, key=lambda name: (name != DEFAULT_MODEL, name)):
        groups.setdefault(_identity(name, models[name]), []).append(name)
    for names in groups.values():
        limits = [models[name].max_concurrent for name in names]
        yield Account(names[0], tuple(names), min((n for n in limits if n), default=0))


def _identity(name: str, model: NamedModel) -> tuple[str | SecretStr, ...]:
    """The id is enough to know a key by; where there is none, its secret is.

    A model with neither has its keys in its own ring, which nobody else uses.
    """
    url = urlsplit(model.endpoint)
    address = url._replace(netloc=url.netloc.lower()).geturl().removesuffix("/chat/completions")
    secret: str | SecretStr = model.ak_secret[0] if model.ak_secret else ""
    key = model.ak_id or secret
    return (address, key) if key else (name,)
