"""The scripts around a claim: one live claim, order, repeats without effect."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any
from uuid import uuid4

import pytest

from shared.errors import ClaimLostError
from shared.messages import Reply
from shared.state import keys
from shared.state.keys import LaneKeys
from tests.integration.lanes import BOT, TEMPLATES, USAGE, Bench, event, inbox, outbox
from workers.store import Lanes

NOTICE = Reply(("sorry",), kind="notice")


class Resending(Lanes):
    """Loses each reply and sends the script again, as the client does; `between` happens."""

    def __init__(self, bench: Bench, between: Callable[[], None] = lambda: None) -> None:
        super().__init__(bench.client, owner="cli@host/1", templates=TEMPLATES)
        self._between = between

    def _run(self, name: str, names: Sequence[str], args: Sequence[Any]) -> Any:
        super()._run(name, names, args)
        self._between()
        return super()._run(name, names, args)


def test_only_one_worker_holds_a_lane(bench: Bench) -> None:
    first = event()
    bench.accept(first, event())

    assert bench.claim(first).event_id == first.trace_id
    assert bench.other_worker().claim(inbox(first), 1) is None


def test_a_claim_brings_the_record_and_the_history(bench: Bench) -> None:
    first = event(text="what?")
    bench.accept(first)
    bench.client.rpush(LaneKeys(inbox(first)).history, "1", "2", "3", "4", "5")

    claim = bench.lanes.claim(inbox(first), 1, history_entries=4)

    assert claim is not None
    assert json.loads(claim.record["event"])["text"] == "what?"
    assert claim.history == ["2", "3", "4", "5"]
    assert claim.attempt == 1


def test_an_empty_lane_gives_no_claim(bench: Bench) -> None:
    assert bench.lanes.claim(inbox(event()), 1) is None


def test_writing_back_hands_the_reply_on_and_the_inbox_goes_on(bench: Bench) -> None:
    first, second = event(), event()
    bench.accept(first, second)

    bench.processed(first)

    assert bench.client.lrange(outbox(first), 0, -1) == [first.trace_id]
    assert bench.hints("push") == 1
    assert bench.hints("process") == 2
    assert bench.claim(second).event_id == second.trace_id


def test_writing_back_twice_is_writing_back_once(bench: Bench) -> None:
    first = event()
    bench.accept(first)
    claim = bench.claim(first)

    for _ in range(3):
        bench.lanes.write_back(claim, Reply(("a",)), ["q", "a"], usage=USAGE, keep=10, ttl_s=60)

    assert bench.client.llen(outbox(first)) == 1
    assert bench.client.lrange(claim.keys.history, 0, -1) == ["q", "a"]
    assert bench.hints("push") == 1


def test_the_history_keeps_the_newest_entries_and_expires(bench: Bench) -> None:
    first = event()
    bench.accept(first)
    claim = bench.claim(first)
    bench.client.rpush(claim.keys.history, "1", "2")

    bench.lanes.write_back(claim, Reply(("a",)), ["3", "4"], usage=USAGE, keep=3, ttl_s=60)

    assert bench.client.lrange(claim.keys.history, 0, -1) == ["2", "3", "4"]
    assert 0 < bench.client.ttl(claim.keys.history) <= 60


def test_a_lost_claim_writes_nothing(bench: Bench) -> None:
    first = event()
    bench.accept(first)
    old = bench.claim(first)
    bench.expire_lease(inbox(first))
    new = bench.claim(first, bench.other_worker())

    with pytest.raises(ClaimLostError):
        bench.write_back(old)
    with pytest.raises(ClaimLostError):
        bench.lanes.retry(old, 1.0, "late")
    with pytest.raises(ClaimLostError):
        bench.lanes.bury(old, "late", None)

    bench.write_back(new)
    assert bench.client.llen(outbox(first)) == 1


def test_a_worker_past_its_lease_may_still_write_back_if_nobody_claimed(bench: Bench) -> None:
    first = event()
    bench.accept(first)
    claim = bench.claim(first)
    bench.expire_lease(inbox(first))
    bench.sweep()

    bench.write_back(claim)

    assert bench.client.llen(outbox(first)) == 1


def test_settling_finishes_the_event_and_leaves_a_short_line(bench: Bench) -> None:
    first = event(text="x" * 5000)
    bench.accept(first)
    bench.processed(first)
    claim = bench.claim_reply(first)

    for _ in range(3):
        bench.lanes.settle(claim, next_part=1, parts=1)

    line = bench.client.get(BOT.event(first.trace_id))
    assert line.startswith("a11")
    assert len(line) <= 44
    assert bench.client.ttl(BOT.event(first.trace_id)) > 86_000
    assert bench.counts() == {"accepted": 1, "answered": 1}
    assert bench.client.zcard(keys.DUE) == 0
    assert not bench.client.exists(outbox(first), LaneKeys(outbox(first)).state)


def test_what_stays_of_a_finished_event_is_at_most_300_bytes(bench: Bench) -> None:
    def used() -> int:
        """All keys and the tables that hold them; the server's own memory comes and goes."""
        bench.client.delete("process", "push")
        pipeline = bench.client.pipeline(transaction=False)
        for key in bench.client.scan_iter(count=1000):
            pipeline.memory_usage(key, samples=0)
        tables = bench.client.memory_stats()["db.0"]
        weights = filter(None, pipeline.execute())  # none: its time was over meanwhile
        return sum(weights) + sum(tables.values())

    def finish(number: int) -> None:
        each = event(f"oc_{number % 20}", message_id=f"om_{uuid4().hex}", event_id=uuid4().hex)
        bench.accept(each)
        bench.processed(each)
        bench.lanes.settle(bench.claim_reply(each), next_part=1, parts=1, route="reply")

    for number in range(64):  # what Redis allocates once: scripts, buffers, the first tables
        finish(number)
    before, events = used(), 1024 - 64  # up to here the hash tables are exactly full
    for number in range(events):
        finish(number)

    assert bench.client.dbsize() < 1024 + 20
    assert (used() - before) / events <= 300


def test_parts_are_settled_one_by_one(bench: Bench) -> None:
    first = event()
    bench.accept(first)
    bench.processed(first, "one", "two")

    one = bench.claim_reply(first)
    bench.lanes.settle(one, next_part=1, parts=2)
    bench.lanes.settle(one, next_part=1, parts=2)
    two = bench.claim_reply(first)

    assert two.record["next_part"] == "1"
    assert two.attempt == 1
    bench.lanes.settle(two, next_part=2, parts=2)
    assert bench.counts()["answered"] == 1


def test_a_retry_keeps_its_place_and_waits_for_its_time(bench: Bench) -> None:
    first, second = event(), event()
    bench.accept(first, second)
    claim = bench.claim(first)

    for _ in range(3):
        bench.lanes.retry(claim, 30, "model:429")

    assert bench.lanes.claim(inbox(first), 1) is None
    bench.make_due(inbox(first))
    again = bench.claim(first)
    assert (again.event_id, again.attempt) == (first.trace_id, 2)
    assert again.since_ms == claim.since_ms
    assert again.record["log"].count("model:429") == 1


def test_a_dead_letter_keeps_its_record_and_the_lane_goes_on(bench: Bench) -> None:
    first, second = event(), event()
    bench.accept(first, second)
    claim = bench.claim(first)

    for _ in range(3):
        bench.lanes.bury(claim, "model:401", NOTICE)

    assert bench.counts() == {"accepted": 2, "dead": 1}
    record = bench.client.hgetall(BOT.event(first.trace_id))
    assert (record["dead_stage"], record["dead_reason"]) == ("process", "model:401")
    assert bench.client.lrange(outbox(first), 0, -1) == [f"!{first.trace_id}"]
    assert bench.claim(second).event_id == second.trace_id


def test_a_notice_takes_the_dead_replys_place(bench: Bench) -> None:
    first, second = event(), event()
    bench.accept(first, second)
    bench.processed(first)
    bench.processed(second)

    bench.lanes.bury(bench.claim_reply(first), "feishu:230002", NOTICE)

    assert bench.client.lrange(outbox(first), 0, -1) == [f"!{first.trace_id}", second.trace_id]
    notice = bench.claim_reply(first)
    assert (notice.is_notice, notice.attempt) == (True, 1)
    bench.lanes.settle(notice, next_part=1, parts=1)
    assert bench.counts() == {"accepted": 2, "dead": 1}
    assert bench.claim_reply(second).event_id == second.trace_id


def test_a_failed_notice_causes_no_notice(bench: Bench) -> None:
    first = event()
    bench.accept(first)
    bench.lanes.bury(bench.claim(first), "model:401", NOTICE)

    bench.lanes.bury(bench.claim_reply(first), "feishu:230002", None)

    assert bench.counts() == {"accepted": 1, "dead": 1}
    assert not bench.client.exists(outbox(first))
    assert bench.client.hget(BOT.event(first.trace_id), "dead_reason") == "model:401"


def test_a_conversation_gets_one_notice_a_minute(bench: Bench) -> None:
    events = [event(), event(), event("oc_other")]
    bench.accept(*events)

    for each in events:
        bench.lanes.bury(bench.claim(each), "model:401", NOTICE)

    assert bench.client.llen(outbox(events[0])) == 1
    assert bench.client.llen(outbox(events[2])) == 1


def test_a_replay_joins_the_tail_and_is_answered(bench: Bench) -> None:
    first, second = event(), event()
    bench.accept(first, second)
    bench.lanes.bury(bench.claim(first), "model:401", None)

    assert bench.lanes.replay(BOT, first.trace_id) == "ok"
    assert bench.lanes.replay(BOT, first.trace_id) == "not_dead"

    assert bench.client.lrange(inbox(first), 0, -1) == [second.trace_id, first.trace_id]
    assert bench.counts() == {"accepted": 2, "dead": 0}


def test_a_replay_that_is_sent_again_happens_once(bench: Bench) -> None:
    """The reply of the first was lost; meanwhile a worker took the event, and it died again."""
    first = event()
    bench.accept(first)
    bench.lanes.bury(bench.claim(first), "model:401", None)
    sender = Resending(bench, lambda: bench.lanes.bury(bench.claim(first), "model:402", None))

    assert sender.replay(BOT, first.trace_id) == "ok"

    assert bench.counts() == {"accepted": 1, "dead": 1}
    assert not bench.client.exists(inbox(first))
    assert bench.lanes.replay(BOT, first.trace_id) == "ok", "another call is another replay"


def test_drop_and_cancel_that_are_sent_again_tell_what_the_first_one_did(bench: Bench) -> None:
    dead, waiting, untouched = event("a"), event("b"), event("c")
    bench.accept(dead, waiting, untouched)
    bench.lanes.bury(bench.claim(dead), "model:401", None)
    ids = [dead.trace_id, waiting.trace_id]

    assert Resending(bench).drop(BOT, [*ids, dead.trace_id]) == 1
    assert Resending(bench).cancel(BOT, ids) == 1

    assert bench.lanes.drop(BOT, ids) == bench.lanes.cancel(BOT, ids) == 0
    assert bench.counts() == {"accepted": 3, "dead": 0, "dropped": 1, "cancelled": 1}


def test_a_notice_that_waits_is_not_said_after_a_replay(bench: Bench) -> None:
    first = event()
    bench.accept(first)
    bench.lanes.bury(bench.claim(first), "model:401", NOTICE)

    bench.lanes.replay(BOT, first.trace_id)

    assert not bench.client.exists(outbox(first))
    bench.processed(first)
    assert bench.claim_reply(first).head == first.trace_id


def test_a_notice_that_waits_for_its_retry_does_not_hold_up_a_replay(bench: Bench) -> None:
    first = event()
    bench.accept(first)
    bench.processed(first)
    bench.lanes.bury(bench.claim_reply(first), "feishu:230002", NOTICE)
    bench.lanes.retry(bench.claim_reply(first), 60, "feishu:500")

    bench.lanes.replay(BOT, first.trace_id)

    assert bench.claim_reply(first).head == first.trace_id


def test_a_replay_waits_behind_a_notice_that_is_being_sent(bench: Bench) -> None:
    first = event()
    bench.accept(first)
    bench.processed(first)
    bench.lanes.bury(bench.claim_reply(first), "feishu:230002", NOTICE)
    notice = bench.claim_reply(first)

    bench.lanes.replay(BOT, first.trace_id)

    assert bench.lanes.claim(outbox(first), 1) is None
    bench.lanes.settle(notice, next_part=1, parts=1)
    assert bench.claim_reply(first).head == first.trace_id


def test_a_dead_push_is_replayed_without_the_model(bench: Bench) -> None:
    first = event()
    bench.accept(first)
    bench.processed(first, "one", "two")
    bench.lanes.settle(bench.claim_reply(first), next_part=1, parts=2)
    bench.lanes.bury(bench.claim_reply(first), "feishu:230002", None)

    bench.lanes.replay(BOT, first.trace_id)

    claim = bench.claim_reply(first)
    assert claim.record["next_part"] == "1"
    assert not bench.client.exists(inbox(first))


def test_replaying_what_was_delivered_does_nothing(bench: Bench) -> None:
    first = event()
    bench.accept(first)
    bench.processed(first)
    bench.lanes.settle(bench.claim_reply(first), next_part=1, parts=1)

    assert bench.lanes.replay(BOT, first.trace_id) == "not_dead"
    assert bench.counts() == {"accepted": 1, "answered": 1}


def test_a_dropped_letter_is_counted_and_stays_a_duplicate(bench: Bench) -> None:
    first = event()
    bench.accept(first)
    bench.lanes.bury(bench.claim(first), "model:401", NOTICE)

    assert bench.lanes.drop(BOT, [first.trace_id, "unknown"]) == 1

    assert bench.counts() == {"accepted": 1, "dead": 0, "dropped": 1}
    assert bench.accept(first) == ["duplicate"]
    # its notice has nothing to say any more: the lane rests
    assert bench.lanes.claim(outbox(first), 1) is None
    assert not bench.client.exists(outbox(first))


def test_renewal_extends_live_claims_and_names_the_lost(bench: Bench) -> None:
    first, second = event("a"), event("b")
    bench.accept(first, second)
    held, lost = bench.claim(first), bench.claim(second)
    bench.expire_lease(inbox(second))
    bench.claim(second, bench.other_worker())
    before = bench.client.zscore(keys.DUE, inbox(first))
    bench.client.zadd(keys.DUE, {inbox(first): 1})

    assert bench.lanes.renew([held, lost]) == [True, False]
    assert bench.client.zscore(keys.DUE, inbox(first)) >= before


def test_a_claim_lost_in_the_outbox_makes_the_send_uncertain(bench: Bench) -> None:
    first = event()
    bench.accept(first)
    bench.processed(first)
    lost = bench.claim_reply(first)
    assert lost.unsure_ms is None
    bench.expire_lease(outbox(first))

    again = bench.claim_reply(first, bench.other_worker())

    assert again.unsure_ms == lost.now_ms
    bench.lanes.retry(again, 0, "feishu:500")
    assert bench.claim_reply(first).unsure_ms == lost.now_ms


def test_an_unknown_outcome_is_remembered_and_a_known_one_is_not(bench: Bench) -> None:
    first, second = event("a"), event("b")
    bench.accept(first, second)
    for each in (first, second):
        bench.processed(each)

    unknown = bench.claim_reply(first)
    bench.lanes.retry(unknown, 0, "cut", unsure=True)
    bench.lanes.retry(bench.claim_reply(second), 0, "feishu:500")

    assert bench.claim_reply(first).unsure_ms == unknown.now_ms
    assert bench.claim_reply(second).unsure_ms is None


@pytest.mark.parametrize("is_last", [False, True], ids=["before", "last"])
def test_a_replay_knows_of_a_send_that_perhaps_happened(bench: Bench, is_last: bool) -> None:
    first = event()
    bench.accept(first)
    bench.processed(first, "one", "two")
    unknown = bench.claim_reply(first)
    if not is_last:
        bench.lanes.retry(unknown, 0, "cut", unsure=True)
    last = unknown if is_last else bench.claim_reply(first)
    bench.lanes.bury(last, "gave up", NOTICE, unsure=is_last)

    notice = bench.claim_reply(first)
    bench.lanes.replay(BOT, first.trace_id)
    bench.lanes.settle(notice, next_part=1, parts=1)
    replayed = bench.claim_reply(first)
    bench.lanes.settle(replayed, next_part=1, parts=2)

    assert notice.unsure_ms is None
    assert replayed.unsure_ms == unknown.now_ms
    assert bench.claim_reply(first).unsure_ms is None, "the other part was never tried"


def test_what_was_held_for_a_person_goes_out_when_it_is_replayed(bench: Bench) -> None:
    first = event()
    bench.accept(first)
    bench.processed(first)
    bench.lanes.retry(bench.claim_reply(first), 0, "cut", unsure=True)
    bench.lanes.bury(bench.claim_reply(first), "uncertain_send: it may have arrived", None)

    bench.lanes.replay(BOT, first.trace_id)

    assert bench.claim_reply(first).unsure_ms is None


def test_a_letter_may_be_dropped_while_its_notice_is_under_way(bench: Bench) -> None:
    first, second, third = event("a"), event("b"), event("c")
    bench.accept(first, second, third)
    for each in (first, second, third):
        bench.lanes.bury(bench.claim(each), "model:401", NOTICE)
    claims = [bench.claim_reply(each) for each in (first, second, third)]
    bench.lanes.drop(BOT, [each.trace_id for each in (first, second, third)])

    bench.lanes.settle(claims[0], next_part=1, parts=1)
    bench.lanes.bury(claims[1], "feishu:230002", None)
    bench.lanes.retry(claims[2], 0, "feishu:500")

    assert bench.lanes.claim(outbox(third), 1) is None
    assert bench.client.zcard(keys.DUE) == 0
    assert bench.counts() == {"accepted": 3, "dead": 0, "dropped": 3}
