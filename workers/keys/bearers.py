"""From a pair to what stands behind `Bearer`: the secret itself, or what a cloud gives for it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol

import redis

from shared.messages import digest
from shared.state.keys import RingKeys
from shared.vault import Vault
from workers.deadline import Deadline
from workers.keys.exchange import Exchanger
from workers.keys.pair import KeyPair
from workers.model.keys import ModelKey
from workers.tokens import TokenCache

#: A refused key this young is as good as the next one would be: the pair itself is at fault.
YOUNG_S = 30.0


class Bearers(Protocol):
    """Makes keys of pairs. Thread-safe."""

    def of(self, pair: KeyPair, deadline: Deadline) -> ModelKey:
        """The key of `pair`; cheap when it was asked for before.

        Raises:
            KeyRefusedError, TransientError, PermanentError: see `Exchanger.fetch`
        """

    def drop(self, key: ModelKey) -> bool:
        """The endpoint refused `key`. Returns whether `of` has another one for its pair now."""


class PlainBearers:
    """The secret is the key."""

    def of(self, pair: KeyPair, deadline: Deadline) -> ModelKey:
        """See `Bearers.of`."""
        return ModelKey(pair.id, pair.secret)

    def drop(self, key: ModelKey) -> bool:
        """See `Bearers.drop`."""
        return False


class ExchangedBearers:
    """Keys that a cloud gives for pairs, shared by all workers until shortly before their end.

    scope: what a key depends on besides its pair, so that other settings get another key.
    """

    def __init__(
        self,
        client: redis.Redis,
        keys: RingKeys,
        master_keys: Sequence[str],
        exchanger: Exchanger,
        scope: Sequence[str],
    ) -> None:
        self._client = client
        self._keys = keys
        self._master_keys = master_keys
        self._exchanger = exchanger
        self._scope = tuple(scope)
        self._caches: dict[str, TokenCache] = {}

    def of(self, pair: KeyPair, deadline: Deadline) -> ModelKey:
        """See `Bearers.of`."""
        cache = self._caches.get(pair.id)
        if cache is None:
            cache = self._caches.setdefault(pair.id, self._cache(pair))
        token = cache.get(partial(self._exchanger.fetch, pair, deadline), deadline.remaining)
        return ModelKey(pair.id, token.value, token.version)

    def drop(self, key: ModelKey) -> bool:
        """See `Bearers.drop`."""
        cache = self._caches.get(key.id)
        return cache is not None and cache.drop(key.version, younger_stays_s=YOUNG_S)

    def _cache(self, pair: KeyPair) -> TokenCache:
        name = self._keys.bearer(digest(*self._scope, pair.ak_id, pair.secret))
        return TokenCache(
            self._client, name, Vault.for_model(self._master_keys, [pair.secret], name)
        )
