"""Due index and sweeper: whatever was lost is found again, and nothing is found too often."""

from __future__ import annotations

import pytest
import redis

from shared.state import keys
from shared.state.keys import LaneKeys
from tests.integration.lanes import Bench, event, inbox, outbox
from workers.supervision import Duties


class Duty:
    """One of who sweeps; it fails where it is given a failure."""

    def __init__(self, failure: Exception | None = None) -> None:
        self._failure = failure
        self.ticks = 0

    def tick(self, now_ms: int) -> None:
        self.ticks += 1
        if self._failure:
            raise self._failure


def test_a_lost_first_hint_is_repeated(bench: Bench) -> None:
    first = event()
    bench.accept(first)
    bench.client.delete("process")
    bench.make_due(inbox(first))

    assert bench.sweep() == (1, 1)
    assert bench.hints("process") == 1


def test_a_hint_lost_by_a_killed_worker_is_seen_by_its_number(bench: Bench) -> None:
    lost, later, waiting = event("a"), event("b"), event("c")
    bench.accept(lost, later, waiting)
    bench.client.rpop("process")  # a worker took it and died
    bench.client.rpop("process")
    bench.lanes.claim(inbox(later), 2)
    bench.make_due(inbox(lost))

    assert bench.sweep() == (1, 1)
    assert bench.hints("process") == 2


def test_ten_thousand_waiting_lanes_cause_no_storm(bench: Bench) -> None:
    for n in range(0, 10_000, 250):
        bench.accept(*(event(f"c{i}") for i in range(n, n + 250)))
    bench.client.zadd(keys.DUE, dict.fromkeys(bench.client.zrange(keys.DUE, 0, -1), 1))

    looked_at = 0
    while (swept := bench.sweep()) and swept[0]:
        looked_at += swept[0]

    assert looked_at == 10_000
    assert bench.hints("process") == 10_000
    assert bench.client.zcount(keys.DUE, "-inf", 1) == 0


def test_the_first_in_the_queue_is_looked_at_again_sooner_than_the_thousandth(
    bench: Bench,
) -> None:
    """A hint that a worker took and lost is told from a waiting one by the next that is claimed."""
    waiting = [event(f"c{n}") for n in range(1000)]
    bench.accept(*waiting)
    for each in waiting:
        bench.make_due(inbox(each))

    while (swept := bench.sweep()) and swept[0]:
        assert swept[1] == 0

    seconds, micros = bench.client.time()
    now = seconds * 1000 + micros // 1000
    first, last = (bench.client.zscore(keys.DUE, inbox(waiting[n])) - now for n in (0, -1))
    assert first <= 1010
    assert 5000 < last <= 10_000


def test_repeats_of_a_hint_back_off(bench: Bench) -> None:
    first = event()
    bench.accept(first)
    waits = []
    for _ in range(4):
        bench.client.delete("process")
        bench.make_due(inbox(first))
        bench.sweep()
        seconds, micros = bench.client.time()
        due = bench.client.zscore(keys.DUE, inbox(first))
        waits.append(round((due - seconds * 1000 - micros / 1000) / 1000))

    assert waits == [10, 15, 15, 15]


def test_a_claim_whose_worker_died_is_hinted_after_its_lease(bench: Bench) -> None:
    first = event()
    bench.accept(first)
    bench.claim(first)
    bench.client.delete("process")

    bench.client.zadd(keys.DUE, {inbox(first): 1})
    assert bench.sweep() == (1, 0)  # the lease still runs: only the time to look is corrected
    bench.expire_lease(inbox(first))
    assert bench.sweep() == (1, 1)

    assert bench.claim(first, bench.other_worker()).attempt == 2


def test_a_retry_is_woken_when_its_time_has_come(bench: Bench) -> None:
    first = event()
    bench.accept(first)
    bench.lanes.retry(bench.claim(first), 3600, "model:503")

    bench.client.zadd(keys.DUE, {inbox(first): 1})
    assert bench.sweep() == (1, 0)
    bench.make_due(inbox(first))
    assert bench.sweep() == (1, 1)


def test_an_outbox_is_swept_like_an_inbox(bench: Bench) -> None:
    first = event()
    bench.accept(first)
    bench.processed(first)
    bench.client.delete("push")
    bench.make_due(outbox(first))

    assert bench.sweep() == (1, 1)
    assert bench.hints("push") == 1


def test_one_worker_sweeps_at_a_time_and_another_takes_over(bench: Bench) -> None:
    assert bench.sweep() == (0, 0)
    assert bench.sweep(bench.other_worker()) is None

    bench.client.delete(keys.SWEEPER)  # its lease ran out
    assert bench.sweep(bench.other_worker()) == (0, 0)


def test_a_due_lane_that_is_empty_is_forgotten(bench: Bench) -> None:
    bench.client.zadd(keys.DUE, {"feishu:cli_test:conv:gone:inbox": 1})

    bench.sweep()

    assert bench.client.zcard(keys.DUE) == 0


def test_a_claim_lost_twice_makes_a_suspect_and_suspects_take_turns(bench: Bench) -> None:
    first, second = event("a"), event("b")
    bench.accept(first, second)
    for _ in range(2):
        for each in (first, second):
            bench.claim(each)
            bench.expire_lease(inbox(each))

    turn = bench.lanes.claim(inbox(first), 1)
    assert turn is not None
    assert bench.lanes.claim(inbox(second), 1) is None

    hints = bench.hints("process")
    bench.write_back(turn)
    assert bench.hints("process") == hints + 1  # the next suspect is called at once
    assert bench.lanes.claim(inbox(second), 1) is not None


def test_only_losses_in_its_own_turn_kill_a_suspect(bench: Bench) -> None:
    first = event("a")
    bench.accept(first)
    for _ in range(2):
        bench.claim(first)
        bench.expire_lease(inbox(first))
    for _ in range(3):
        assert not bench.claim(first).is_poison
        bench.expire_lease(inbox(first))
        bench.client.delete(keys.SUSPECT)  # its lease ends with the claim's

    poison = bench.claim(first)

    assert poison.is_poison
    bench.lanes.bury(poison, "poison", None)
    assert bench.counts() == {"accepted": 1, "dead": 1}


def test_a_claim_lost_by_a_worker_that_was_asked_to_stop_does_not_count(bench: Bench) -> None:
    first = event()
    bench.accept(first)
    for n in range(5):
        stopping = bench.other_worker(f"w{n}@host/{n}")
        bench.claim(first, stopping)
        stopping.mark_stopping()
        bench.expire_lease(inbox(first))

    claim = bench.claim(first)

    assert not claim.is_poison
    assert bench.client.hget(LaneKeys(inbox(first)).state, "losses") == "0"
    assert not bench.client.exists(keys.SUSPECT)


@pytest.mark.parametrize(
    ("failure", "told"),
    [(redis.ResponseError("ERR in a script"), "duty.failed"), (KeyError(), "supervision.bug")],
)
def test_a_duty_that_fails_holds_up_neither_the_others_nor_the_heartbeat(
    bench: Bench, caplog: pytest.LogCaptureFixture, failure: Exception, told: str
) -> None:
    failing, other = Duty(failure), Duty()
    duties = Duties(bench.client, bench.lanes, worker="w1@host", facts={}, leader=[failing, other])

    duties.tick()

    assert (failing.ticks, other.ticks) == (1, 1)
    assert bench.client.hkeys(keys.WORKERS) == ["w1@host"]
    assert caplog.messages == [told]


def test_a_sweep_that_fails_does_not_make_its_worker_look_dead(bench: Bench) -> None:
    bench.client.hset(keys.DUE, "of", "the wrong type")

    Duties(bench.client, bench.lanes, worker="w1@host", facts={}).tick()

    assert bench.client.hkeys(keys.WORKERS) == ["w1@host"]


def test_a_redis_that_is_away_ends_the_tick(bench: Bench) -> None:
    away, other = Duty(redis.ConnectionError()), Duty()
    duties = Duties(bench.client, bench.lanes, worker="w1@host", facts={}, leader=[away, other])

    with pytest.raises(redis.ConnectionError):
        duties.tick()

    assert other.ticks == 0


def test_workers_that_are_gone_for_an_hour_are_forgotten(bench: Bench) -> None:
    """Also those that were told to stop; one that lives and has nothing to do is not."""
    seconds, _ = bench.client.time()
    long_ago, lately = (seconds - 3700) * 1000, (seconds - 3500) * 1000
    seen = {"silent": long_ago, "idle": seconds * 1000}
    bench.client.hset(keys.WORKERS, mapping={n: f'{{"seen_ms": {ms}}}' for n, ms in seen.items()})
    active = {"silent": long_ago, "idle": long_ago, "stopped": long_ago, "just stopped": lately}
    bench.client.hset(keys.ACTIVE, mapping=active)

    Duties(bench.client, bench.lanes, worker="w1@host", facts={}).tick()

    assert set(bench.client.hkeys(keys.WORKERS)) == {"idle", "w1@host"}
    assert set(bench.client.hkeys(keys.ACTIVE)) == {"idle", "just stopped"}
