"""The models of one process, as the settings describe them."""

from __future__ import annotations

import redis

from shared.config import Settings
from shared.config.accounts import accounts
from shared.config.groups import ModelCalls
from shared.config.models import NamedModel
from workers.client import HttpClient
from workers.keys.sources import key_source
from workers.metrics import Metrics
from workers.model.breaker import Breaker, Limits
from workers.model.chain import Models
from workers.model.chat import Model
from workers.model.endpoint import Endpoint
from workers.model.slots import Slots


def build_models(
    settings: Settings, client: HttpClient, store: redis.Redis, metrics: Metrics
) -> Models:
    """Every model with its keys, its breaker and the slots that all share."""
    models = settings.all_models()
    slots = build_slots(settings, store)
    endpoints = {}
    for name, model in models.items():
        breaker = Breaker(store, name, _limits(settings.model_calls))
        keys = key_source(settings, name, store, client)
        endpoints[name] = Endpoint(name, _model(model, client), keys, breaker, slots, metrics)
    return Models(endpoints)


def build_slots(settings: Settings, store: redis.Redis) -> Slots:
    """The slots of every account, that its models share."""
    limits: dict[str, int] = {}
    account_of: dict[str, str] = {}
    for account in accounts(settings.all_models()):
        limits[account.name] = account.limit
        account_of |= dict.fromkeys(account.models, account.name)
    return Slots(store, limits, settings.model_calls.max_concurrent, account_of=account_of)


def _limits(calls: ModelCalls) -> Limits:
    return Limits(
        failures=calls.breaker_failures,
        ratio=calls.breaker_ratio,
        window_s=calls.breaker_window_s,
        open_s=calls.breaker_open_s,
        slow_s=calls.breaker_slow_s,
    )


def _model(model: NamedModel, client: HttpClient) -> Model:
    return Model(
        client,
        endpoint=model.endpoint,
        name=model.name,
        stream=model.stream,
        temperature=model.temperature,
        max_tokens=model.max_tokens,
    )
