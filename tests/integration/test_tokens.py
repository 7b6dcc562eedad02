"""Access tokens: fetched by one, used by all, sealed at rest, dropped by version."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from shared.errors import TransientError
from shared.messages import Token
from shared.state.keys import BotKeys
from shared.vault import Vault
from workers.tokens import CachedToken, TokenCache

BOT = BotKeys("feishu", "cli_test")
VAULT = Vault.for_bot([], ["app-secret"], BOT.prefix)
LONG_S = 10.0


class Platform:
    """Gives out tokens and counts how often it was asked."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self.asked = 0
        self._delay_s = delay_s
        self._lock = threading.Lock()

    def fetch(self) -> Token:
        with self._lock:
            self.asked += 1
            number = self.asked
        time.sleep(self._delay_s)
        return Token(f"t-secret-{number}", 7000.0)


@pytest.fixture
def platform() -> Platform:
    return Platform()


@pytest.fixture
def cache(redis_client: redis.Redis) -> TokenCache:
    return cache_on(redis_client)


def cache_on(client: redis.Redis) -> TokenCache:
    return TokenCache(client, BOT.token, VAULT)


def remaining() -> float:
    return LONG_S


def test_twenty_threads_fetch_one_token(redis_client: redis.Redis) -> None:
    platform = Platform(delay_s=0.2)
    caches = [cache_on(redis_client) for _ in range(4)]  # as in four processes

    with ThreadPoolExecutor(20) as threads:
        asked = [threads.submit(caches[n % 4].get, platform.fetch, remaining) for n in range(20)]
        tokens = {future.result(LONG_S) for future in asked}

    assert platform.asked == 1
    assert {token.value for token in tokens} == {"t-secret-1"}
    assert len(tokens) == 1


def test_a_cached_token_is_used_until_it_expires(
    cache: TokenCache, platform: Platform, redis_client: redis.Redis
) -> None:
    first = cache.get(platform.fetch, remaining)
    lifetime_ms = redis_client.pttl(BOT.token)
    again = cache.get(platform.fetch, remaining)
    redis_client.pexpire(BOT.token, 0)
    later = cache_on(redis_client).get(platform.fetch, remaining)  # as in another process

    assert 6_900_000 < lifetime_ms <= 7_000_000
    assert (first, again, later.value) == (first, first, "t-secret-2")


def test_a_token_is_sealed_at_rest(
    cache: TokenCache, platform: Platform, redis_client: redis.Redis
) -> None:
    token = cache.get(platform.fetch, remaining)

    assert token.value not in str(redis_client.hgetall(BOT.token))


def test_a_refused_token_is_dropped_and_fetched_once_more(
    cache: TokenCache, platform: Platform
) -> None:
    refused = cache.get(platform.fetch, remaining)

    for _ in range(3):
        cache.drop(refused.version)
    fresh = cache.get(platform.fetch, remaining)
    cache.drop(refused.version)  # by a worker that heard of it late

    assert cache.get(platform.fetch, remaining) == fresh
    assert platform.asked == 2


def test_the_lock_outlives_the_longest_fetch(cache: TokenCache, redis_client: redis.Redis) -> None:
    lived_ms: list[int] = []

    def look() -> Token:
        lived_ms.append(redis_client.pttl(f"{BOT.token}:lock"))
        return Token("t-secret", 7000.0)

    cache.get(look, lambda: 300.0)

    assert lived_ms[0] > 300_000


def test_a_failed_fetch_lets_the_next_one_try_at_once(
    cache: TokenCache, platform: Platform, redis_client: redis.Redis
) -> None:
    def fail() -> Token:
        raise TransientError("feishu:500")

    with pytest.raises(TransientError, match="feishu:500"):
        cache.get(fail, remaining)

    assert not redis_client.exists(f"{BOT.token}:lock")
    assert isinstance(cache.get(platform.fetch, remaining), CachedToken)


def test_who_waits_for_another_fetch_waits_no_longer_than_its_deadline(
    cache: TokenCache, platform: Platform, redis_client: redis.Redis
) -> None:
    redis_client.set(f"{BOT.token}:lock", "somebody else", px=10_000)
    until = time.monotonic() + 0.2

    with pytest.raises(TransientError, match="token:busy"):
        cache.get(platform.fetch, lambda: until - time.monotonic())

    assert platform.asked == 0


def test_a_fetcher_that_died_is_replaced_when_its_lock_ends(
    cache: TokenCache, platform: Platform, redis_client: redis.Redis
) -> None:
    redis_client.set(f"{BOT.token}:lock", "dead", px=150)

    assert cache.get(platform.fetch, remaining).value == "t-secret-1"


def test_a_slow_fetcher_leaves_its_successors_lock_alone(
    cache: TokenCache, redis_client: redis.Redis
) -> None:
    def overtaken() -> Token:
        redis_client.set(f"{BOT.token}:lock", "successor", px=10_000)
        return Token("t-late", 7000.0)

    cache.get(overtaken, remaining)

    assert redis_client.get(f"{BOT.token}:lock") == "successor"


def test_a_fetcher_that_fails_late_leaves_its_successors_lock_alone(
    cache: TokenCache, redis_client: redis.Redis
) -> None:
    def overtaken() -> Token:
        redis_client.set(f"{BOT.token}:lock", "successor", px=10_000)
        raise TransientError("feishu:500")

    with pytest.raises(TransientError):
        cache.get(overtaken, remaining)

    assert redis_client.get(f"{BOT.token}:lock") == "successor"


def test_a_trusted_token_costs_redis_nothing(
    cache: TokenCache, platform: Platform, redis_client: redis.Redis
) -> None:
    first = cache.get(platform.fetch, remaining)
    redis_client.flushall()

    assert cache.get(platform.fetch, remaining) == first
    cache.drop(first.version)
    assert cache.get(platform.fetch, remaining) != first


def test_a_token_that_came_since_it_was_looked_for_is_not_fetched_again(
    redis_client: redis.Redis, platform: Platform
) -> None:
    class ComesInBetween(TokenCache):
        """Another worker's fetch ends between the look and the lock."""

        def _open_in_between(self, **kwargs: object) -> object:
            if platform.asked == 0:
                cache_on(redis_client).get(platform.fetch, remaining)
            return self._lock_script(**kwargs)

    cache = ComesInBetween(redis_client, BOT.token, VAULT)
    cache._lock_script, cache._take_lock = cache._take_lock, cache._open_in_between

    assert cache.get(platform.fetch, remaining).value == "t-secret-1"
    assert platform.asked == 1


def test_a_lock_whose_answer_was_lost_is_taken_by_who_holds_it(
    redis_client: redis.Redis, platform: Platform
) -> None:
    """The client sends the script again; nobody else would fetch until the lock ends."""

    class LosesAnswers(TokenCache):
        def __init__(self) -> None:
            super().__init__(redis_client, BOT.token, VAULT)
            self._once, self._take_lock = self._take_lock, self._twice

        def _twice(self, **kwargs: object) -> object:
            self._once(**kwargs)
            return self._once(**kwargs)

    until = time.monotonic() + 0.5
    token = LosesAnswers().get(platform.fetch, lambda: until - time.monotonic())

    assert token.value == "t-secret-1"
    assert not redis_client.exists(f"{BOT.token}:lock")


def test_a_young_token_is_kept_when_it_is_refused(
    cache: TokenCache, platform: Platform, redis_client: redis.Redis
) -> None:
    """It is as good as the next one: what was refused must be something else."""
    token = cache.get(platform.fetch, remaining)

    assert not cache.drop(token.version, younger_stays_s=30)
    assert cache.get(platform.fetch, remaining) == token
    redis_client.hincrby(BOT.token, "fetched", -30_000)
    assert cache.drop(token.version, younger_stays_s=30)
    assert cache.drop(token.version, younger_stays_s=30)  # said by another worker
    assert cache.get(platform.fetch, remaining) != token


def test_a_token_that_no_key_opens_any_more_is_fetched_anew(
    platform: Platform, redis_client: redis.Redis
) -> None:
    former = TokenCache(redis_client, BOT.token, Vault.for_bot([], ["former"], BOT.prefix))
    former.get(platform.fetch, remaining)

    assert cache_on(redis_client).get(platform.fetch, remaining).value == "t-secret-2"
