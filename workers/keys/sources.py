"""Composition: every model's keys from the settings."""

from __future__ import annotations

import time

import redis

from shared.config import Settings
from shared.config.models import NamedModel
from shared.platforms.settings import reveal
from shared.state.keys import RingKeys
from workers.client import HttpClient
from workers.keys.baidu import BaiduExchange
from workers.keys.bearers import Bearers, ExchangedBearers, PlainBearers
from workers.keys.exchange import Exchange, Exchanger
from workers.keys.pair import KeyPair
from workers.keys.ring_store import RingStore
from workers.keys.source import RingKeySource
from workers.keys.volcengine import VolcengineExchange


def key_source(
    settings: Settings, name: str, client: redis.Redis, http: HttpClient
) -> RingKeySource:
    """Where the calls of the model `name` get their keys."""
    return RingKeySource(
        name,
        ring_store(settings, name, client),
        bearers(settings, name, client, http),
        own_pairs(settings.all_models()[name]),
    )


def ring_store(settings: Settings, name: str, client: redis.Redis) -> RingStore:
    """The key ring of the model `name`."""
    return RingStore(client, name, reveal(settings.master_key))


def bearers(settings: Settings, name: str, client: redis.Redis, http: HttpClient) -> Bearers:
    """How pairs of the model `name` become keys."""
    model = settings.all_models()[name]
    if model.auth == "bearer":
        return PlainBearers()
    return ExchangedBearers(
        client,
        RingKeys(name),
        reveal(settings.master_key),
        Exchanger(_exchange(model), http, time.time),
        (model.auth, model.auth_endpoint or "", *model.resource_ids),
    )


def own_pairs(model: NamedModel) -> tuple[KeyPair, ...]:
    """The pairs of the settings. A model that wants no key has one without a secret."""
    pairs = tuple(KeyPair(model.ak_id, secret) for secret in reveal(model.ak_secret))
    return pairs or ((KeyPair("", ""),) if model.auth == "bearer" else ())


def _exchange(model: NamedModel) -> Exchange:
    if model.auth == "baidu":
        return BaiduExchange(model.auth_endpoint)
    return VolcengineExchange(model.resource_ids, model.auth_endpoint)
