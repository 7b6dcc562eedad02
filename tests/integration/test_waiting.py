"""Who waits without a word: told once, in time, never after the answer."""

from __future__ import annotations

import pytest

from shared.errors import ClaimLostError
from shared.messages import Event, Reply
from shared.state import keys
from shared.state.keys import WORKING_MARK, LaneKeys
from tests.integration.lanes import BOT, Bench, event, outbox
from workers.claim import Claim
from workers.supervision import NOTICES_PER_CALL, Duties

NOTICE = Reply(("sorry",), kind="notice")


def key(of: Event) -> str:
    return BOT.event(of.trace_id)


def word(of: Event) -> str:
    return WORKING_MARK + of.trace_id


def wait(bench: Bench, *events: Event) -> None:
    """Accepted events whose person has waited long enough."""
    assert set(bench.accept(*events, notice_after_ms=9000)) == {"accepted"}
    bench.client.zadd(keys.WAITING, {key(each): 1 for each in events})


def tell(bench: Bench) -> tuple[int, int]:
    return bench.lanes.tell_waiting(limit=200)


def replies(bench: Bench, of: Event) -> list[str]:
    return list(bench.client.lrange(outbox(of), 0, -1))


def claim_word(bench: Bench, of: Event) -> Claim:
    claim = bench.claim_reply(of)
    assert (claim.head, claim.is_notice, claim.is_working_notice) == (word(of), True, True)
    return claim


def test_the_time_is_counted_from_acceptance(bench: Bench) -> None:
    first = event()
    bench.accept(first, notice_after_ms=9000)

    accepted = int(bench.client.hget(key(first), "accepted"))
    assert bench.client.zscore(keys.WAITING, key(first)) == accepted + 9000


def test_without_notices_nothing_is_kept(bench: Bench) -> None:
    bench.accept(event())

    assert not bench.client.exists(keys.WAITING)


def test_only_what_was_accepted_waits(bench: Bench) -> None:
    first = event()
    bench.accept(first)

    assert bench.accept(first, notice_after_ms=9000) == ["duplicate"]
    assert not bench.client.exists(keys.WAITING)


def test_nobody_is_told_before_the_time(bench: Bench) -> None:
    bench.accept(event(), notice_after_ms=9000)

    assert tell(bench) == (0, 0)


def test_who_waits_in_the_queue_a_lane_or_for_a_retry_is_told(bench: Bench) -> None:
    alone, first, second, failed = event("alone"), event("a"), event("a"), event("b")
    bench.accept(first)
    wait(bench, alone, second, failed)
    bench.lanes.retry(bench.claim(failed), 60, "model:503")

    assert tell(bench) == (3, 3)
    assert tell(bench) == (0, 0)
    assert all(replies(bench, each) == [word(each)] for each in (alone, second, failed))
    assert bench.hints("push") == 3


def test_a_conversation_is_told_once_a_minute_whoever_waits_in_it(bench: Bench) -> None:
    """Twelve in a group: a robot may say twenty things a minute there, answers included."""
    others, group = event("alone"), [event("group") for _ in range(12)]
    wait(bench, *group, others)
    bench.client.zadd(keys.WAITING, {key(group[0]): 0})

    assert tell(bench) == (13, 2)
    assert replies(bench, group[0]) == [word(group[0])]
    assert tell(bench) == (0, 0), "who got no word is not looked at again within the minute"
    told = LaneKeys(outbox(group[0])).told
    assert 59_000 < bench.client.pttl(told) <= 60_000
    later = event("group")
    wait(bench, later)
    assert tell(bench) == (1, 0)
    bench.client.delete(told)  # a minute is over
    last = event("group")
    wait(bench, last)
    assert tell(bench) == (1, 1)
    assert replies(bench, last) == [word(group[0]), word(last)]


def test_who_is_due_within_that_minute_has_its_turn_after_it(bench: Bench) -> None:
    group = [event("group") for _ in range(3)]
    first, answered, second = group
    wait(bench, first)
    assert tell(bench) == (1, 1)
    wait(bench, answered, second)

    assert tell(bench) == (2, 0)

    told, seconds = LaneKeys(outbox(first)).told, bench.client.time()[0]
    for each in (answered, second):
        assert 55 < bench.client.zscore(keys.WAITING, key(each)) / 1000 - seconds <= 61
    bench.client.delete(told)  # a minute is over
    bench.client.zadd(keys.WAITING, {key(each): 1 for each in (answered, second)})
    bench.processed(first)
    bench.processed(answered)
    assert tell(bench) == (1, 1)
    assert replies(bench, first)[-1] == word(second)
    assert not bench.client.exists(keys.WAITING)


def test_who_is_put_off_is_not_looked_at_again_and_again(bench: Bench) -> None:
    first, second = event("group"), event("group")
    wait(bench, first)
    tell(bench)
    wait(bench, second)
    bench.client.persist(LaneKeys(outbox(first)).told)  # it has no end, or this very moment
    seconds, micros = bench.client.time()

    assert tell(bench) == (1, 0)

    assert bench.client.zscore(keys.WAITING, key(second)) > seconds * 1000 + micros // 1000


def test_the_word_is_sent_before_the_answer_and_counts_as_none(bench: Bench) -> None:
    first = event()
    wait(bench, first)
    tell(bench)
    claim = claim_word(bench, first)

    bench.lanes.settle(claim, next_part=1, parts=1)
    bench.lanes.settle(claim, next_part=1, parts=1)

    assert bench.counts() == {"accepted": 1}
    assert replies(bench, first) == []
    assert int(bench.client.hget(key(first), "told")) >= claim.now_ms
    bench.processed(first)
    bench.lanes.settle(bench.claim_reply(first), next_part=1, parts=1)
    assert bench.counts() == {"accepted": 1, "answered": 1}


def test_a_written_answer_ends_the_waiting(bench: Bench) -> None:
    first = event()
    wait(bench, first)

    bench.processed(first)

    assert tell(bench) == (0, 0)
    assert replies(bench, first) == [first.trace_id]


def test_a_death_ends_the_waiting(bench: Bench) -> None:
    first = event()
    wait(bench, first)

    bench.lanes.bury(bench.claim(first), "model:401", NOTICE)

    assert tell(bench) == (0, 0)
    assert replies(bench, first) == ["!" + first.trace_id]


@pytest.mark.parametrize("end", ["answer", "death"])
def test_a_word_that_was_not_sent_in_time_is_never_sent(bench: Bench, end: str) -> None:
    first = event()
    wait(bench, first)
    tell(bench)
    if end == "answer":
        bench.processed(first)
    else:
        bench.lanes.bury(bench.claim(first), "model:401", NOTICE)

    claim = bench.claim_reply(first)

    assert not claim.is_working_notice
    assert replies(bench, first) == [claim.head]


def test_an_event_that_is_gone_waits_for_nothing(bench: Bench) -> None:
    first = event()
    wait(bench, first)
    bench.client.delete(key(first))

    assert tell(bench) == (1, 0)
    assert not bench.client.exists(keys.WAITING, outbox(first))


def test_what_is_no_whole_record_waits_for_nothing(bench: Bench) -> None:
    ghost, first = BOT.event("~1"), event()
    bench.client.hset(ghost, "push_tries", 3)
    wait(bench, first)
    bench.client.zadd(keys.WAITING, {ghost: 0})

    assert tell(bench) == (2, 1)


def test_the_answer_does_not_overtake_a_word_that_is_being_sent(bench: Bench) -> None:
    first = event()
    wait(bench, first)
    tell(bench)
    claim = claim_word(bench, first)
    bench.processed(first)

    assert bench.lanes.claim(outbox(first), 1) is None
    bench.lanes.settle(claim, next_part=1, parts=1)
    assert bench.claim_reply(first).head == first.trace_id


def test_a_word_whose_worker_died_does_not_hold_up_the_answer(bench: Bench) -> None:
    first = event()
    wait(bench, first)
    tell(bench)
    lost = claim_word(bench, first)
    bench.processed(first)
    bench.expire_lease(outbox(first))

    assert bench.claim_reply(first, bench.other_worker()).head == first.trace_id
    with pytest.raises(ClaimLostError):
        bench.lanes.settle(lost, next_part=1, parts=1)


def test_a_failed_word_is_noted_and_the_event_lives_on(bench: Bench) -> None:
    first = event()
    wait(bench, first)
    tell(bench)
    claim = claim_word(bench, first)

    for _ in range(2):
        bench.lanes.bury(claim, "feishu:230002", None)

    assert bench.counts() == {"accepted": 1}
    assert "feishu:230002" in bench.client.hget(key(first), "log")
    bench.processed(first)
    assert bench.claim_reply(first).head == first.trace_id


def test_a_failed_word_does_not_take_the_notice_of_a_failure_along(bench: Bench) -> None:
    first = event()
    wait(bench, first)
    tell(bench)
    claim = claim_word(bench, first)
    bench.lanes.bury(bench.claim(first), "model:401", NOTICE)

    bench.lanes.bury(claim, "feishu:500", None)

    assert bench.claim_reply(first).head == "!" + first.trace_id


def test_an_answer_that_has_begun_puts_the_word_off(bench: Bench) -> None:
    first = event()
    wait(bench, first)
    claim = bench.claim(first)

    bench.lanes.put_off_notice(claim, 65)

    assert tell(bench) == (0, 0)
    assert bench.client.zscore(keys.WAITING, key(first)) == claim.now_ms + 65_000


def test_an_answer_that_has_begun_wakes_no_word_again(bench: Bench) -> None:
    first = event()
    wait(bench, first)
    claim = bench.claim(first)
    tell(bench)

    bench.lanes.put_off_notice(claim, 65)

    assert not bench.client.exists(keys.WAITING)


def test_a_call_takes_no_more_than_it_is_asked_to(bench: Bench) -> None:
    wait(bench, *(event(f"c{n}") for n in range(5)))

    assert bench.lanes.tell_waiting(limit=3) == (3, 3)
    assert bench.lanes.tell_waiting(limit=3) == (2, 2)


def test_the_sweeper_tells_who_waits_also_when_they_are_many(bench: Bench) -> None:
    waiting = [event(f"c{n}") for n in range(NOTICES_PER_CALL + 1)]
    wait(bench, *waiting)
    duties = Duties(bench.client, bench.lanes, worker="w1@host", facts={})

    duties.tick()

    assert all(replies(bench, each) == [word(each)] for each in waiting)
    assert not bench.client.exists(keys.WAITING)
