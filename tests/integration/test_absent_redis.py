"""A claim while Redis is frozen, restarted or cut off: got back, or left to others at once."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from celery.exceptions import SoftTimeLimitExceeded

from shared.envelope import hint_templates
from shared.messages import Reply
from shared.state import keys
from shared.state.keys import LaneKeys
from tests.integration.gateway import settings_for
from tests.integration.lanes import TEMPLATES, USAGE, Bench, event, inbox, outbox
from tests.redis_server import RedisServer
from workers.claim import GoOn
from workers.redis_client import connect
from workers.store import CLAIM_VALID_MS, LEASE_MS, PATIENCE_S, Lanes

SOCKET_TIMEOUT_S = 0.3
FROZEN_S = 2.0  #: redis-py gives up after four times the socket timeout and its short pauses
GO_ON = GoOn(wanted=True, history_entries=4)


class Deaf(Lanes):
    """Redis does what it is told, and the first `losses` answers get lost."""

    def __init__(self, client: redis.Redis, losses: int) -> None:
        super().__init__(client, owner="w3@host/3", templates=TEMPLATES)
        self.losses = losses

    def _run(self, name: str, names: Sequence[str], args: Sequence[Any]) -> Any:
        answer = super()._run(name, names, args)
        if self.losses:
            self.losses -= 1
            raise redis.exceptions.TimeoutError("nothing came")
        return answer


class CutByCelery(Lanes):
    """Celery's soft limit comes while Redis is silent."""

    def _run(self, name: str, names: Sequence[str], args: Sequence[Any]) -> Any:
        raise SoftTimeLimitExceeded


@pytest.fixture
def frozen(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of its own: others must not wait for it."""
    with RedisServer(tmp_path) as server:
        yield server


def worker_on(server: RedisServer) -> tuple[redis.Redis, Lanes]:
    settings = settings_for(server.url, REDIS__SOCKET_TIMEOUT_S=str(SOCKET_TIMEOUT_S))
    client = connect(settings, max_connections=4)
    return client, Lanes(client, owner="w@host/1", templates=hint_templates())


def late(lanes: Lanes, by_ms: int = 1000) -> None:
    """What `lanes` asks for reaches Redis so long after its time."""
    lanes._time.heard(int(time.time() * 1000) - CLAIM_VALID_MS - by_ms)


def test_a_claim_outlasts_a_frozen_redis(frozen: RedisServer) -> None:
    with frozen.client() as client:
        bench = Bench(client)
        first, second = event("a"), event("b")
        bench.accept(first, second)
        worker, lanes = worker_on(frozen)
        bench.claim(first, lanes)

        frozen.send_signal(signal.SIGSTOP)
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(lanes.claim, inbox(second), 2)
            time.sleep(FROZEN_S)
            assert not asked.done()
            frozen.send_signal(signal.SIGCONT)
            claim = asked.result(timeout=10)

        assert claim is not None
        assert (claim.event_id, claim.attempt) == (second.trace_id, 1)
        assert claim.waited_s >= FROZEN_S
        assert client.hget(LaneKeys(inbox(second)).state, "claim") == claim.id
        worker.close()


def test_a_claim_that_was_not_told_is_got_back(bench: Bench) -> None:
    first = event()
    bench.accept(first)

    claim = Deaf(bench.client, losses=3).claim(inbox(first), 1)

    assert claim is not None
    assert claim.attempt == 1
    assert bench.client.hget(LaneKeys(inbox(first)).state, "claim") == claim.id


def test_who_asked_long_ago_gets_no_claim_and_the_lane_another_hint(bench: Bench) -> None:
    """A frozen Redis wakes and finds the call of a worker that has given up."""
    first = event()
    bench.accept(first)
    bench.client.rpop("process")
    late(bench.lanes)

    assert bench.lanes.claim(inbox(first), 1) is None

    assert "claim" not in bench.client.hgetall(LaneKeys(inbox(first)).state)
    assert bench.sweep() == (1, 1)
    assert bench.claim(first).attempt == 1, "the worker knows the time again"


def test_a_claim_taken_in_time_is_told_of_also_late(bench: Bench) -> None:
    first = event()
    bench.accept(first)
    claim = bench.claim(first)

    args = [1, claim.id, LEASE_MS, 0, keys.STOPPING_PREFIX, 1]
    answer = bench.lanes._run("claim", [inbox(first)], args)

    assert answer[:2] == ["claimed", inbox(first)]


def test_a_write_back_that_comes_late_takes_nothing_further(bench: Bench) -> None:
    first, second = event("a"), event("b")
    bench.accept(first, second)
    bench.client.rpop("process")
    claim = bench.claim(first)
    late(bench.lanes)

    following = bench.lanes.write_back(
        claim, Reply(("a",)), [], usage=USAGE, keep=0, ttl_s=60, go_on=GO_ON
    )

    assert following is None
    assert bench.client.exists(outbox(first))
    assert bench.hints("process") == 1


def test_a_settling_that_comes_late_takes_nothing_further(bench: Bench) -> None:
    first, second = event("a"), event("b")
    bench.accept(first, second)
    bench.processed(first)
    bench.processed(second)
    bench.client.rpop("push")
    claim = bench.claim_reply(first)
    late(bench.lanes)

    assert bench.lanes.settle(claim, next_part=1, parts=1, go_on=GO_ON) is None

    assert bench.counts() == {"accepted": 2, "answered": 1}
    assert bench.hints("push") == 1


def test_an_outcome_that_celery_cuts_short_is_no_failed_attempt(bench: Bench) -> None:
    """It may still be recorded: a retry would send again what has arrived."""
    first = event()
    bench.accept(first)
    bench.processed(first)
    claim = bench.claim_reply(first)
    cut = CutByCelery(bench.client, owner="w1@host/1", templates=TEMPLATES)

    with pytest.raises(redis.exceptions.TimeoutError):
        cut.settle(claim, next_part=1, parts=1)


@contextmanager
def without_replicas(client: redis.Redis) -> Iterator[None]:
    """Redis refuses every write, as it does while replicas that it needs are away."""
    client.config_resetstat()
    client.config_set("min-replicas-to-write", 1)
    try:
        yield
    finally:
        client.config_set("min-replicas-to-write", 0)


def await_refusal(client: redis.Redis) -> None:
    deadline = time.monotonic() + 10
    while "errorstat_NOREPLICAS" not in client.info("errorstats"):
        assert time.monotonic() < deadline, "no write was refused"
        time.sleep(0.01)


def test_an_outcome_waits_until_redis_takes_writes_again(bench: Bench) -> None:
    first = event()
    bench.accept(first)
    bench.processed(first)
    claim = bench.claim_reply(first)

    with ThreadPoolExecutor(1) as pool:
        with without_replicas(bench.client):
            settled = pool.submit(bench.lanes.settle, claim, next_part=1, parts=1)
            await_refusal(bench.client)
        settled.result(timeout=10)

    assert bench.counts() == {"accepted": 1, "answered": 1}


def test_an_outcome_that_redis_will_never_take_is_not_waited_for(bench: Bench) -> None:
    first = event()
    bench.accept(first)
    bench.processed(first)
    claim = bench.claim_reply(first)
    bench.client.set(LaneKeys(outbox(first)).state, "of the wrong type")
    started = time.monotonic()

    with pytest.raises(redis.exceptions.ResponseError):
        bench.lanes.settle(claim, next_part=1, parts=1)

    assert time.monotonic() - started < PATIENCE_S / 2
