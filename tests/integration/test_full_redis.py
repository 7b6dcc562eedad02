"""A Redis that takes no write from anybody: what drains it works all the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from redis.exceptions import OutOfMemoryError

from shared.messages import Token
from shared.state import keys
from shared.vault import Vault
from tests.integration.lanes import BOT, Bench, event, inbox
from workers.keys.duty import KeyDuty
from workers.retention import Retention
from workers.store import Lanes
from workers.supervision import Duties
from workers.tokens import TokenCache


@pytest.fixture
def bench(redis_client: redis.Redis) -> Iterator[Bench]:
    yield Bench(redis_client)
    redis_client.config_set("maxmemory", 0)


def fill(client: redis.Redis) -> None:
    client.config_set("maxmemory", 1)
    with pytest.raises(OutOfMemoryError):
        client.set("anything", 1)


def duties(lanes: Lanes, client: redis.Redis) -> Duties:
    return Duties(
        client,
        lanes,
        worker="w1@host",
        facts={},
        leader=[
            Retention(client, lanes, [BOT], letter_days=1, text_days=0),
            KeyDuty(client, [], warn_days=14),
        ],
    )


def test_a_tick_sweeps_a_full_redis(bench: Bench) -> None:
    asked = event()
    bench.accept(asked)
    bench.client.delete("process")
    bench.make_due(inbox(asked))
    fill(bench.client)

    with pytest.raises(OutOfMemoryError):  # the heartbeat
        duties(bench.lanes, bench.client).tick()

    assert bench.hints("process") == 1


def test_a_tick_tells_of_the_worker(bench: Bench) -> None:
    duties(bench.lanes, bench.client).tick()

    assert bench.client.hkeys(keys.WORKERS) == ["w1@host"]


def test_an_access_token_is_fetched_for_a_full_redis(bench: Bench) -> None:
    cache = TokenCache(bench.client, BOT.token, Vault.for_bot([], ["app-secret"], BOT.prefix))
    fill(bench.client)

    token = cache.get(lambda: Token("t-secret", 7000.0), lambda: 1.0)

    assert token.value == "t-secret"


def test_what_can_not_be_counted_does_not_hold_a_reply(bench: Bench) -> None:
    fill(bench.client)

    bench.lanes.count(BOT, "uncertain")

    assert "uncertain" not in bench.counts()
