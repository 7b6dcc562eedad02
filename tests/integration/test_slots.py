"""Calls at once, over all workers: exact, and healed when a worker dies."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from celery.exceptions import SoftTimeLimitExceeded

from shared.config import load_settings
from shared.errors import BusyError
from shared.state import keys
from workers.model.build import build_slots
from workers.model.slots import LEASE_MS, Slots

WAIT_S = 10.0


def slots_on(client: redis.Redis, main: int = 0, in_all: int = 0) -> Slots:
    return Slots(client, {"main": main, "other": main}, in_all)


class Gauge:
    """How many are inside, and the most there ever were."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 0
        self.peak = 0

    def __enter__(self) -> None:
        with self._lock:
            self._now += 1
            self.peak = max(self.peak, self._now)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._now -= 1


def test_no_more_calls_than_slots_over_all_processes(redis_client: redis.Redis) -> None:
    processes = [slots_on(redis_client, main=5) for _ in range(4)]
    gauge = Gauge()

    def call(number: int) -> None:
        with processes[number % 4].taken("main", WAIT_S), gauge:
            time.sleep(0.01)

    with ThreadPoolExecutor(40) as threads:
        list(threads.map(call, range(200)))

    assert gauge.peak == 5
    assert redis_client.zcard(keys.slots("main")) == 0


def test_models_together_keep_to_the_limit_of_all(redis_client: redis.Redis) -> None:
    slots = slots_on(redis_client, main=3, in_all=4)
    with slots.taken("main", 0), slots.taken("main", 0), slots.taken("main", 0):
        with pytest.raises(BusyError), slots.taken("main", 0):
            pass
        with slots.taken("other", 0), pytest.raises(BusyError), slots.taken("other", 0):
            pass


def test_models_of_one_account_share_its_slots(redis_client: redis.Redis, tmp_path: Path) -> None:
    environ = {
        "CLAWDBOT_ENDPOINT": "https://a.example/v1",
        "CLAWDBOT_AK_SECRET": "sk-1",
        "CLAWDBOT_MODEL__MAX_CONCURRENT": "1",
        "CLAWDBOT_MODELS__TURBO__ENDPOINT": "https://a.example/v1",
        "CLAWDBOT_MODELS__TURBO__AK_SECRET": "sk-1",
        "CLAWDBOT_MODELS__OTHER__ENDPOINT": "https://a.example/v1",
        "CLAWDBOT_MODELS__OTHER__AK_SECRET": "sk-2",
        "CLAWDBOT_MODELS__OTHER__MAX_CONCURRENT": "1",
    }
    slots = build_slots(load_settings(environ, cwd=tmp_path), redis_client)

    with slots.taken("default", 0), pytest.raises(BusyError), slots.taken("turbo", 0):
        pass
    with slots.taken("turbo", 0), pytest.raises(BusyError), slots.taken("default", 0):
        pass
    with slots.taken("turbo", 0), slots.taken("other", 0):
        pass


def test_a_refused_caller_holds_nothing(redis_client: redis.Redis) -> None:
    slots = slots_on(redis_client, main=1, in_all=9)
    with slots.taken("main", 0):
        with pytest.raises(BusyError), slots.taken("main", 0):
            pass
        assert redis_client.zcard(keys.SLOTS) == 1


def test_the_slots_of_a_dead_worker_come_back(redis_client: redis.Redis) -> None:
    slots = slots_on(redis_client, main=1)
    redis_client.zadd(keys.slots("main"), {"of a dead worker": 1})

    with slots.taken("main", 0):
        assert redis_client.zcard(keys.slots("main")) == 1


def test_a_long_call_keeps_its_slot(redis_client: redis.Redis) -> None:
    slots = slots_on(redis_client, main=1)
    with slots.taken("main", 0):
        ((holder, ends),) = redis_client.zrange(keys.slots("main"), 0, -1, withscores=True)
        redis_client.zadd(keys.slots("main"), {holder: ends - LEASE_MS / 2})

        slots.renew_all()

        assert redis_client.zscore(keys.slots("main"), holder) >= ends


def test_a_slot_whose_taking_was_cut_short_is_not_renewed(redis_client: redis.Redis) -> None:
    slots = slots_on(redis_client, main=1)
    take = slots._take

    def cut_short(**call: Any) -> None:
        take(**call)
        raise SoftTimeLimitExceeded

    slots._take = cut_short
    with pytest.raises(SoftTimeLimitExceeded), slots.taken("main", 0):
        pass
    before = redis_client.zrange(keys.slots("main"), 0, -1, withscores=True)
    redis_client.zadd(keys.slots("main"), {before[0][0]: before[0][1] - 5000})

    slots.renew_all()

    ((_, ends),) = redis_client.zrange(keys.slots("main"), 0, -1, withscores=True)
    assert ends == before[0][1] - 5000


def test_renewing_takes_nothing_back_that_was_lost(redis_client: redis.Redis) -> None:
    slots = slots_on(redis_client, main=1)
    with slots.taken("main", 0):
        redis_client.delete(keys.slots("main"))
        slots.renew_all()

        assert redis_client.exists(keys.slots("main")) == 0


def test_who_waits_gets_the_slot_that_becomes_free(redis_client: redis.Redis) -> None:
    slots = slots_on(redis_client, main=1)
    with ThreadPoolExecutor(1) as threads:
        with slots.taken("main", 0):
            waiting = threads.submit(_take, slots)
        assert waiting.result(WAIT_S) is True


def test_without_limits_redis_is_not_asked(redis_client: redis.Redis) -> None:
    with slots_on(redis.Redis(port=1)).taken("main", 0):
        pass


def test_without_redis_nobody_waits() -> None:
    with slots_on(redis.Redis(port=1, socket_connect_timeout=0.2), main=1).taken("main", 0):
        pass


def _take(slots: Slots) -> bool:
    with slots.taken("main", WAIT_S):
        return True
