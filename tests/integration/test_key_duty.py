"""The periodic look at the key rings: one warning a day, and out with what is past its window."""

from __future__ import annotations

import logging

import pytest
import redis

from shared.state.key_ring import DAY_MS, Entry, KeyRing
from tests.integration.lanes import Bench
from workers.keys.duty import INTERVAL_MS, KeyDuty
from workers.keys.pair import KeyPair
from workers.keys.ring_store import RingStore
from workers.supervision import Duties

MASTER = "a master key of tests"


@pytest.fixture
def store(redis_client: redis.Redis) -> RingStore:
    return RingStore(redis_client, "default", [MASTER])


def duty(client: redis.Redis, *stores: RingStore) -> KeyDuty:
    return KeyDuty(client, stores, warn_days=14)


def redis_now(client: redis.Redis) -> int:
    return int(client.time()[0]) * 1000


def put(store: RingStore, client: redis.Redis, **ends_in_days: float) -> int:
    """Keys of these states with these ends, in days from now; now."""
    now = redis_now(client)
    entries = []
    for state, days in ends_in_days.items():
        ends = now + int(days * DAY_MS)
        accepted = ends if state == "replaced" else 0
        sealed = store.seal(KeyPair("", f"sk-{state}"))
        entries.append(Entry(f"id-{state}", state, sealed, now, ends, accepted))  # type: ignore[arg-type]
    store.change(lambda _, __: KeyRing(tuple(entries)))
    return now


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Event and key of every line since the last time."""
    lines = [(r.message, r.metadata["key"]) for r in caplog.records if r.message.startswith("key.")]  # type: ignore[attr-defined]
    caplog.clear()
    return lines


def test_a_key_near_its_end_is_warned_of_once_a_day_by_whoever_sweeps(
    store: RingStore, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    now = put(store, redis_client, active=13, next=15, replaced=1)
    first, second = (duty(redis_client, store) for _ in range(2))

    for each in (first, second):
        each.tick(now)
        each.tick(now + INTERVAL_MS)

    assert told(caplog) == [("key.expiring", "id-active")]
    (noted,) = redis_client.keys("clawdbot:keys:default:warned:*")
    assert redis_client.ttl(noted) > 86_000
    redis_client.delete(noted)  # a day later
    first.tick(now + 2 * INTERVAL_MS)
    assert told(caplog) == [("key.expiring", "id-active")]


def test_an_expired_active_key_is_an_error_and_stays(
    store: RingStore, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    now = put(store, redis_client, active=-1)

    duty(redis_client, store).tick(now)

    assert told(caplog) == [("key.expired", "id-active")]
    assert store.read().ring.active is not None


def test_what_is_past_its_window_is_archived(
    store: RingStore, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    now = put(store, redis_client, active=50, next=-0.1, replaced=-0.1)

    duty(redis_client, store).tick(now)

    ring = store.read().ring
    assert [entry.state for entry in ring.entries] == ["active", "archived", "archived"]
    assert [entry.sealed for entry in ring.entries[1:]] == ["", ""]
    assert set(told(caplog)) == {("key.archived", "id-next"), ("key.archived", "id-replaced")}


def test_a_replaced_key_past_its_window_that_stands_in_for_an_active_one_is_an_error(
    store: RingStore, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    now = put(store, redis_client, replaced=-1)

    duty(redis_client, store).tick(now)

    assert told(caplog) == [("key.expired", "id-replaced")]
    assert [entry.state for entry in store.read().ring.entries] == ["replaced"]


def test_a_ring_that_no_master_key_opens_is_an_error(
    store: RingStore, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    now = put(store, redis_client, active=50)

    duty(redis_client, RingStore(redis_client, "default", [])).tick(now)

    assert told(caplog) == [("key.unreadable", "id-active")]


def test_it_looks_once_a_minute(store: RingStore, redis_client: redis.Redis) -> None:
    now = put(store, redis_client, active=50, replaced=-1)
    looks = duty(redis_client, store)
    looks.tick(now)
    put(store, redis_client, active=50, replaced=-1)

    looks.tick(now + INTERVAL_MS - 1)
    assert [entry.state for entry in store.read().ring.entries] == ["active", "replaced"]
    looks.tick(now + INTERVAL_MS)
    assert [entry.state for entry in store.read().ring.entries] == ["active", "archived"]


def test_only_the_worker_that_sweeps_looks(bench: Bench, store: RingStore) -> None:
    put(store, bench.client, active=50, replaced=-1)
    assert bench.sweep() is not None  # the lease is another worker's
    idle = Duties(
        bench.client,
        bench.other_worker(),
        worker="w2@host",
        facts={},
        leader=[duty(bench.client, store)],
    )

    idle.tick()

    assert [entry.state for entry in store.read().ring.entries] == ["active", "replaced"]
