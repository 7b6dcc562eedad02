"""Models' blocks, `models.<name>`: which there are, and what they must agree on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from shared.config.accounts import accounts
from shared.config.known import Path, env_name, nearest
from shared.config.models import DEFAULT_MODEL, NamedModel
from shared.config.problems import label_of
from shared.config.settings import Settings
from shared.config.sources import Given, Layer

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")  # part of Redis keys and metrics


def model_blocks(layers: Iterable[Layer], problems: list[str]) -> frozenset[Path]:
    """The paths of the named models' blocks; a name that can't be one is a problem."""
    blocks: dict[Path, Given] = {}
    for layer in layers:
        for path, given in layer.items():
            if path[0] == "models" and len(path) > 1:
                blocks[path[:2]] = given
    for block, given in sorted(blocks.items(), key=lambda each: each[0]):
        if fault := _name_fault(block[1]):
            problems.append(f"{'.'.join(block)} ({given.origin}): {fault}")
    return frozenset(blocks)


def model_faults(settings: Settings, given: Layer) -> Iterator[str]:
    """What is wrong with the models beyond their single values: a sentence each."""
    models = settings.all_models()
    for name, model in models.items():
        yield from _key_faults(name, model, given, has_ring=bool(settings.master_key))
    yield from _limit_faults(models, given)
    for path, chain in _chains(settings):
        label = label_of(path, given)
        for name in chain:
            if name == DEFAULT_MODEL and name not in models:
                yield f"{label} names the default model: set CLAWDBOT_ENDPOINT"
            elif name not in models:
                like = nearest(name, models)
                told = f"; the nearest is {like}" if like else ""
                yield f"{label}: there is no model {name}{told}"


def _chains(settings: Settings) -> Iterator[tuple[Path, tuple[str, ...]]]:
    yield ("model", "chain"), settings.model.chain
    for platform, bot in settings.default_bots.items():
        yield (platform, "model_chain"), bot.model_chain
    for name, bot in settings.bots.items():
        yield ("bots", name, "model_chain"), bot.model_chain


def _key_faults(name: str, model: NamedModel, given: Layer, *, has_ring: bool) -> Iterator[str]:
    """has_ring: the pair may also come from `clawdbot keys`, which needs a master key."""
    if model.auth == "bearer":
        return
    is_default = name == DEFAULT_MODEL
    auth = ("service", "auth") if is_default else ("models", name)
    spec = ("model",) if is_default else ("models", name)
    need = f"needed with {label_of((*spec, 'auth'), given)}: {model.auth}"
    if not model.ak_id and (model.ak_secret or not has_ring):
        yield f"{env_name((*auth, 'ak_id'))} is not set, but {need}"
    if model.auth == "volcengine" and not model.resource_ids:
        yield f"{env_name((*spec, 'resource_ids'))} is not set, but {need}"


def _limit_faults(models: Mapping[str, NamedModel], given: Layer) -> Iterator[str]:
    """Models of one account share its slots: then there is one number of them."""
    for account in accounts(models):
        first, *others = [n for n in account.models if models[n].max_concurrent] or [account.name]
        for other in others:
            if models[other].max_concurrent != models[first].max_concurrent:
                yield (
                    f"{_limit_label(other, given)} differs from {_limit_label(first, given)}, "
                    f"but the models {first} and {other} have the same endpoint and key, "
                    "and share their slots: give both the same number, or one"
                )


def _limit_label(name: str, given: Layer) -> str:
    spec = ("model",) if name == DEFAULT_MODEL else ("models", name)
    return label_of((*spec, "max_concurrent"), given)


def _name_fault(name: str) -> str:
    if name == DEFAULT_MODEL:
        return f"{DEFAULT_MODEL} is the model of CLAWDBOT_ENDPOINT; choose another name"
    if not _NAME.fullmatch(name):
        return "a model's name has 1 to 32 of a-z, 0-9, - and _, the first a letter or digit"
    return ""
