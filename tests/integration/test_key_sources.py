"""A model's keys at work: ring, marks and exchanges on a real Redis, against simulated clouds."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from shared.config import Settings
from shared.errors import (
    KeyRefusedError,
    PermanentError,
    RateLimitedError,
    TaskError,
    TransientError,
)
from shared.state.key_ring import DAY_MS, Entry, KeyRing, RingError
from shared.state.keys import RingKeys
from shared.trace_context import Trace
from tests.clock import Clock
from tests.integration.gateway import settings_for, simulator
from tests.redis_server import RedisServer, free_port
from tests.simulator.world import World
from workers.client import HttpClient
from workers.deadline import Deadline
from workers.keys.bearers import PlainBearers
from workers.keys.pair import KeyPair, fingerprint
from workers.keys.ring_store import REFUSED_MS, RingStore
from workers.keys.source import FRESH_S, PUT_OFF_S, RingKeySource
from workers.metrics import Metrics
from workers.model.build import build_models
from workers.model.chain import Models
from workers.model.keys import ModelKey

MASTER = "a master key of tests, long enough"
KEYS = RingKeys("default")
OWN = (KeyPair("", "sk-own"), KeyPair("", "sk-spare"))
MESSAGES = [{"role": "user", "content": "hi"}]
PAIR = {"AK-1": "SK-secret-1"}


@pytest.fixture
def store(redis_client: redis.Redis) -> RingStore:
    return RingStore(redis_client, "default", [MASTER])


@pytest.fixture
def source(store: RingStore, clock: Clock) -> RingKeySource:
    return RingKeySource("default", store, PlainBearers(), OWN, clock=clock)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with simulator(free_port()) as running:
        yield running


@pytest.fixture
def http() -> Iterator[HttpClient]:
    client = HttpClient(concurrency=16)
    yield client
    client.close()


def put_active(store: RingStore, secret: str, ak_id: str = "") -> str:
    """Make `secret` the ring's active key; its id."""
    pair = KeyPair(ak_id, secret)

    def activate(ring: KeyRing, now_ms: int) -> KeyRing:
        entry = Entry(pair.id, "next", store.seal(pair), now_ms, now_ms + 90 * DAY_MS)
        return ring.activate(entry, overlap_ms=7 * DAY_MS, now_ms=now_ms)

    store.change(activate)
    return pair.id


def bearers(source: RingKeySource) -> list[str]:
    """Every key in the order of trying, as if none were refused."""
    return [key.bearer for key in source.usable(Deadline(10))]


# --- the ring -----------------------------------------------------------------------------------


def test_pairs_are_sealed_at_rest_and_open_with_any_listed_master_key(
    store: RingStore, redis_client: redis.Redis
) -> None:
    put_active(store, "sk-very-secret", "AK-known")

    written = redis_client.get(KEYS.ring)
    (entry,) = store.read().ring.entries

    assert "very-secret" not in written
    assert "AK-known" not in written
    assert store.open(entry.sealed) == KeyPair("AK-known", "sk-very-secret")
    rotated = RingStore(redis_client, "default", ["a new master key", MASTER])
    assert rotated.open(entry.sealed) == KeyPair("AK-known", "sk-very-secret")
    assert RingStore(redis_client, "default", ["another"]).open(entry.sealed) is None
    assert RingStore(redis_client, "default", []).open(entry.sealed) is None
    assert RingStore(redis_client, "other", [MASTER]).open(entry.sealed) is None


def test_many_operators_at_once_lose_nothing(store: RingStore) -> None:
    with ThreadPoolExecutor(8) as threads:
        ids = set(threads.map(lambda n: put_active(store, f"sk-{n}"), range(12)))

    ring = store.read().ring
    assert {entry.id for entry in ring.entries} == ids
    assert [entry.state for entry in ring.live].count("active") == 1


def test_a_change_that_makes_no_sense_changes_nothing(
    store: RingStore, redis_client: redis.Redis
) -> None:
    put_active(store, "sk-1")
    before = redis_client.get(KEYS.ring)

    with pytest.raises(RingError):
        store.change(lambda ring, _: ring.archive("unknown"))

    assert redis_client.get(KEYS.ring) == before


def test_a_save_whose_answer_was_lost_may_be_sent_again(store: RingStore) -> None:
    save = {"keys": [KEYS.ring], "args": ["", KeyRing().to_json()]}

    assert [store._save(**save), store._save(**save)] == [1, 1]
    assert store._save(keys=[KEYS.ring], args=["", '{"v":1,"entries":[1]}']) == 0


# --- picking up changes -------------------------------------------------------------------------


def test_a_change_is_picked_up_within_two_seconds_and_costs_one_read(
    source: RingKeySource, store: RingStore, clock: Clock, redis_client: redis.Redis
) -> None:
    assert bearers(source) == ["sk-own", "sk-spare"]
    calls = calls_of(redis_client)

    put_active(store, "sk-new")
    assert next(source.usable(Deadline(10))).bearer == "sk-own"
    clock.now += FRESH_S
    for _ in range(100):
        assert next(source.usable(Deadline(10))).bearer == "sk-new"

    assert calls_of(redis_client) - calls == 3  # read and save of the change, one read of ours


def calls_of(client: redis.Redis) -> int:
    """Of scripts, without those that failed, since one had to be loaded first."""
    stats = client.info("commandstats")
    found = [stats.get(f"cmdstat_{name}", {}) for name in ("evalsha", "eval")]
    return sum(each.get("calls", 0) - each.get("failed_calls", 0) for each in found)


def test_a_refusal_reads_at_once_and_finds_the_key_that_has_just_come(
    source: RingKeySource, store: RingStore
) -> None:
    """Else the last of the known keys would be refused, and the message be dead."""
    keys = source.usable(Deadline(10))
    first = next(keys)
    put_active(store, "sk-new")

    source.refused(first)

    assert [key.bearer for key in keys] == ["sk-new", "sk-spare"]


def test_a_refused_key_is_tried_last_by_all_workers_until_the_mark_heals(
    source: RingKeySource, store: RingStore, clock: Clock, redis_client: redis.Redis
) -> None:
    other = RingKeySource("default", store, PlainBearers(), OWN, clock=clock)
    source.refused(next(source.usable(Deadline(10))))

    assert bearers(source) == bearers(other) == ["sk-spare", "sk-own"]
    assert 0 < redis_client.pttl(KEYS.refused) <= REFUSED_MS
    redis_client.zadd(KEYS.refused, {OWN[0].id: 1})  # as if the time had passed
    clock.now += FRESH_S
    assert bearers(source) == bearers(other) == ["sk-own", "sk-spare"]


def test_an_outage_of_redis_leaves_the_keys_that_are_known(tmp_path: object, clock: Clock) -> None:
    with RedisServer(tmp_path) as server:  # type: ignore[arg-type]
        client = server.client()
        source = RingKeySource(
            "default", RingStore(client, "default", [MASTER]), PlainBearers(), OWN, clock=clock
        )
        first = next(source.usable(Deadline(10)))
        server.stop()
        clock.now += FRESH_S

        assert bearers(source) == ["sk-own", "sk-spare"]
        source.refused(first)
        assert bearers(source) == ["sk-own", "sk-spare"]
        client.close()
        server.start()
    with pytest.raises(redis.RedisError):
        bearers(RingKeySource("default", RingStore(client, "x", []), PlainBearers(), OWN))


# --- exchanges ----------------------------------------------------------------------------------


@pytest.fixture(params=["baidu", "volcengine"])
def cloud(
    request: pytest.FixtureRequest, world: World, redis_server: RedisServer
) -> Iterator[Settings]:
    world.keys.keys.clear()
    world.keys.pairs = dict(PAIR)
    world.keys.lifetime_s = 3600.0
    world.keys.expire()
    yield settings_for(
        redis_server.url,
        world.base_url,
        MODEL__AUTH=request.param,
        MODEL__AUTH_ENDPOINT=f"{world.base_url}/{request.param}",
        MODEL__RESOURCE_IDS="clawdbot-demo",
        AK_ID="AK-1",
        AK_SECRET=PAIR["AK-1"],
        MASTER_KEY=MASTER,
    )
    world.faults.clear()


def models_of(settings: Settings, client: redis.Redis, http: HttpClient) -> Models:
    """As in one worker process."""
    return build_models(settings, http, client, Metrics())


def ask(models: Models, total_s: float = 10) -> str:
    return models.answer(("default",), MESSAGES, Deadline(total_s, 5), Trace("trace")).text


def test_a_pair_is_exchanged_once_for_all_workers(
    cloud: Settings, world: World, redis_client: redis.Redis, http: HttpClient
) -> None:
    world.faults.order(
        {"target": f"{cloud.model.auth}.{thing(cloud)}", "kind": "slow", "delay_s": 0.2}
    )
    before = world.keys.exchanges
    processes = [models_of(cloud, redis_client, http) for _ in range(4)]

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda n: ask(processes[n % 4]), range(16)))

    assert all(answer.startswith("You said: hi") for answer in answers)
    assert world.keys.exchanges - before == 1
    assert PAIR["AK-1"] not in dump(redis_client)
    assert "derived" not in dump(redis_client)


def thing(settings: Settings) -> str:
    return "token" if settings.model.auth == "baidu" else "key"


def dump(client: redis.Redis) -> str:
    names = client.keys("clawdbot:keys:*")
    assert names
    return str([client.hgetall(n) if client.type(n) == "hash" else client.get(n) for n in names])


def test_a_key_is_got_anew_before_its_end(
    cloud: Settings, world: World, redis_client: redis.Redis, http: HttpClient
) -> None:
    world.keys.lifetime_s = 3.0
    before = world.keys.exchanges
    ask(models_of(cloud, redis_client, http))
    (name,) = redis_client.keys("clawdbot:keys:default:bearer:*")
    lifetime_ms = redis_client.pttl(name)
    wait_until_gone(redis_client, name)

    ask(models_of(cloud, redis_client, http))

    assert lifetime_ms <= 2700
    assert world.keys.exchanges - before == 2


def wait_until_gone(client: redis.Redis, name: str) -> None:
    deadline = time.monotonic() + 10
    while client.exists(name):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_old_key_that_is_refused_is_got_anew_within_the_call(
    cloud: Settings, world: World, redis_client: redis.Redis, http: HttpClient
) -> None:
    models = models_of(cloud, redis_client, http)
    ask(models)
    world.keys.expire()
    (name,) = redis_client.keys("clawdbot:keys:default:bearer:*")
    redis_client.hincrby(name, "fetched", -60_000)
    before = world.keys.exchanges

    assert ask(models).startswith("You said")

    assert world.keys.exchanges - before == 1
    assert not redis_client.exists(KEYS.refused)


def test_a_young_key_that_is_refused_speaks_against_its_pair(
    cloud: Settings, world: World, redis_client: redis.Redis, http: HttpClient
) -> None:
    """The pair may not use the model: another key of it would be refused as well, for each call."""
    models = models_of(cloud, redis_client, http)
    ask(models)
    world.keys.expire()
    before = world.keys.exchanges

    for _ in range(3):
        with pytest.raises(KeyRefusedError, match="model:401"):
            ask(models)

    assert world.keys.exchanges == before
    assert redis_client.zrange(KEYS.refused, 0, -1) == [fingerprint(PAIR["AK-1"])]


def test_a_pair_that_the_cloud_refuses_gives_way_to_the_next(
    cloud: Settings, world: World, redis_client: redis.Redis, http: HttpClient
) -> None:
    world.keys.pairs["AK-2"] = "SK-secret-2"
    put_active(RingStore(redis_client, "default", [MASTER]), "SK-secret-2", "AK-2")
    del world.keys.pairs["AK-2"]

    assert ask(models_of(cloud, redis_client, http)).startswith("You said")

    assert redis_client.zrange(KEYS.refused, 0, -1) == [fingerprint("SK-secret-2")]
    world.keys.pairs.clear()
    world.keys.expire()
    with pytest.raises(KeyRefusedError, match=r"clawdbot keys verify|401"):
        ask(models_of(cloud, redis_client, http))


def test_a_pair_with_a_wrong_secret_gives_way_to_the_next(
    cloud: Settings, world: World, redis_client: redis.Redis, http: HttpClient
) -> None:
    """Baidu answers it with 400, not with 401 or 403."""
    world.keys.pairs["AK-2"] = "SK-secret-2"
    put_active(RingStore(redis_client, "default", [MASTER]), "SK-mistyped", "AK-2")

    assert ask(models_of(cloud, redis_client, http)).startswith("You said")

    assert redis_client.zrange(KEYS.refused, 0, -1) == [fingerprint("SK-mistyped")]


def test_a_new_pair_has_a_key_of_its_own(
    cloud: Settings, world: World, redis_client: redis.Redis, http: HttpClient
) -> None:
    ask(models_of(cloud, redis_client, http))
    world.keys.pairs["AK-2"] = "SK-secret-2"
    put_active(RingStore(redis_client, "default", [MASTER]), "SK-secret-2", "AK-2")

    ask(models_of(cloud, redis_client, http))

    assert len(redis_client.keys("clawdbot:keys:default:bearer:*")) == 2


def test_a_cloud_that_is_busy_is_asked_later(
    cloud: Settings, world: World, redis_client: redis.Redis, http: HttpClient
) -> None:
    target = f"{cloud.model.auth}.{thing(cloud)}"
    world.faults.order({"target": target, "kind": "status", "status": 503})
    world.faults.order({"target": target, "kind": "lose_response"})
    models = models_of(cloud, redis_client, http)

    for _ in range(2):
        with pytest.raises(TransientError, match=r"baidu|volcengine"):
            ask(models)
    assert ask(models).startswith("You said")
    assert not redis_client.exists(KEYS.refused)


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 503},
        {"kind": "status", "status": 429},
        {"kind": "status", "status": 404},
    ],
)
def test_a_pair_whose_exchange_fails_does_not_hide_another_ones_key(
    fault: dict[str, object],
    cloud: Settings,
    world: World,
    redis_client: redis.Redis,
    http: HttpClient,
) -> None:
    models = models_of(cloud, redis_client, http)
    ask(models)
    put_pair_2(world, redis_client)
    world.faults.order({"target": f"{cloud.model.auth}.{thing(cloud)}", **fault})
    before = world.keys.exchanges

    assert ask(models_of(cloud, redis_client, http)).startswith("You said")

    assert world.keys.exchanges == before
    assert not redis_client.exists(KEYS.refused), "nothing speaks against the pair"


def put_pair_2(world: World, client: redis.Redis) -> None:
    """A second pair, the ring's active one."""
    world.keys.pairs["AK-2"] = "SK-secret-2"
    put_active(RingStore(client, "default", [MASTER]), "SK-secret-2", "AK-2")


def test_after_an_exchange_that_hangs_the_next_attempt_begins_with_another_pair(
    cloud: Settings, world: World, redis_client: redis.Redis, http: HttpClient
) -> None:
    ask(models_of(cloud, redis_client, http))
    put_pair_2(world, redis_client)
    world.faults.order({"target": f"{cloud.model.auth}.{thing(cloud)}", "kind": "hang"})
    models = models_of(cloud, redis_client, http)
    before = world.keys.exchanges

    with pytest.raises(TransientError, match="deadline"):
        ask(models, total_s=0.5)

    assert ask(models).startswith("You said")
    assert world.keys.exchanges == before


class Exchanges(PlainBearers):
    """Pairs by their secrets: what `failures` has for one is raised."""

    def __init__(self, **failures: TaskError) -> None:
        self.failures = failures

    def of(self, pair: KeyPair, deadline: Deadline) -> ModelKey:
        if failure := self.failures.get(pair.secret):
            raise failure
        return super().of(pair, deadline)


def test_a_pair_whose_exchange_failed_is_tried_last_for_a_while(
    store: RingStore, clock: Clock
) -> None:
    clouds = Exchanges(a=TransientError("baidu:503"))
    own = (KeyPair("", "a"), KeyPair("", "b"))
    source = RingKeySource("default", store, clouds, own, clock=clock)
    assert next(source.usable(Deadline(10))).bearer == "b"
    clouds.failures.clear()

    assert bearers(source) == ["b", "a"]
    clock.now += PUT_OFF_S
    assert bearers(source) == ["a", "b"]


def test_of_pairs_that_all_fail_the_one_that_may_work_soonest_is_told_of(
    store: RingStore, clock: Clock
) -> None:
    clouds = Exchanges(
        a=KeyRefusedError("baidu:403"),
        b=RateLimitedError("baidu:429", retry_after_s=9),
        c=TransientError("baidu:503"),
        d=KeyRefusedError("baidu:401"),
    )
    own = [KeyPair("", secret) for secret in "abcd"]

    with pytest.raises(TransientError, match="503"):
        bearers(RingKeySource("default", store, clouds, own, clock=clock))


def test_a_pair_whose_exchange_is_turned_down_for_good_hides_no_other(
    store: RingStore, clock: Clock, redis_client: redis.Redis
) -> None:
    """Resource ids of one pair's account, say: the other pair has its key."""
    clouds = Exchanges(a=PermanentError("volcengine:InvalidParameter"))
    own = (KeyPair("", "a"), KeyPair("", "b"))

    source = RingKeySource("default", store, clouds, own, clock=clock)
    assert next(source.usable(Deadline(10))).bearer == "b"
    assert not redis_client.exists(KEYS.refused), "nobody refused the pair"
    with pytest.raises(PermanentError, match="InvalidParameter"):
        bearers(RingKeySource("default", store, clouds, own[:1], clock=clock))


def test_a_cloud_that_hangs_ends_with_the_calls_deadline(
    cloud: Settings, world: World, redis_client: redis.Redis, http: HttpClient
) -> None:
    world.faults.order({"target": f"{cloud.model.auth}.{thing(cloud)}", "kind": "hang"})
    started = time.monotonic()

    with pytest.raises(TransientError, match="deadline"):
        ask(models_of(cloud, redis_client, http), total_s=0.5)

    assert time.monotonic() - started < 4


def test_the_calls_that_run_while_keys_are_read_go_on_with_what_is_known(
    store: RingStore, clock: Clock
) -> None:
    reading, may_end = threading.Event(), threading.Event()

    class SlowStore(RingStore):
        is_slow = False

        def read(self):  # type: ignore[no-untyped-def]
            if self.is_slow:
                reading.set()
                may_end.wait(10)
            return super().read()

    slow = SlowStore(store._read.registered_client, "default", [MASTER])
    source = RingKeySource("default", slow, PlainBearers(), OWN, clock=clock)
    bearers(source)
    slow.is_slow = True
    clock.now += FRESH_S
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(lambda: next(source.usable(Deadline(10))))
        assert reading.wait(10)

        assert next(source.usable(Deadline(10))).bearer == "sk-own"

        may_end.set()
        assert first.result(10).bearer == "sk-own"
