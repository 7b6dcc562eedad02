"""A worker that is done takes the next waiting hint in the same call."""

from __future__ import annotations

import json

from shared.messages import Event, Reply
from shared.state import keys
from tests.integration.lane_worker import SendsTwice
from tests.integration.lanes import BOT, USAGE, Bench, event, inbox, outbox
from workers.claim import STOP, Claim, GoOn
from workers.store import Lanes

GO_ON = GoOn(wanted=True, history_entries=4)


def take(bench: Bench, of: Event) -> Claim:
    """Claim by the hint, as Celery hands it over."""
    message = json.loads(bench.client.rpop("process"))
    lane, seq, _ = json.loads(message["body"])[0]
    assert lane == inbox(of)
    claim = bench.lanes.claim(lane, int(seq))
    assert claim is not None
    return claim


def write_back(lanes: Lanes, claim: Claim, go_on: GoOn = GO_ON) -> Claim | None:
    reply, turns = Reply(("a",)), ["q", "a"]
    return lanes.write_back(claim, reply, turns, usage=USAGE, keep=4, ttl_s=60, go_on=go_on)


def test_the_oldest_waiting_hint_comes_with_the_write_back(bench: Bench) -> None:
    first, second, third = event("a"), event("b"), event("c")
    bench.accept(first, second, third)

    following = write_back(bench.lanes, take(bench, first))

    assert following is not None
    assert (following.lane, following.event_id) == (inbox(second), second.trace_id)
    assert json.loads(following.record["event"])["message_id"] == second.message_id
    assert bench.hints("process") == 1
    assert bench.lanes.claim(inbox(second), 2) is None  # it is held


def test_a_lanes_own_next_event_waits_its_turn(bench: Bench) -> None:
    first, other, second = event("a"), event("b"), event("a")
    bench.accept(first, other, second)

    following = write_back(bench.lanes, take(bench, first))

    assert following is not None
    assert following.event_id == other.trace_id


def test_the_history_of_the_next_lane_comes_along(bench: Bench) -> None:
    first, second = event("a"), event("a")
    bench.accept(first, second)

    following = write_back(bench.lanes, take(bench, first))

    assert following is not None
    assert following.history == ["q", "a"]


def test_without_the_wish_nothing_is_taken(bench: Bench) -> None:
    first, second = event("a"), event("b")
    bench.accept(first, second)

    assert write_back(bench.lanes, take(bench, first), STOP) is None
    assert bench.hints("process") == 1


def test_with_nothing_waiting_there_is_nothing_to_go_on_with(bench: Bench) -> None:
    first = event("a")
    bench.accept(first)

    assert write_back(bench.lanes, take(bench, first)) is None


def test_a_call_that_is_repeated_takes_one_claim_and_tells_of_it_again(bench: Bench) -> None:
    first, second, third = event("a"), event("b"), event("c")
    bench.accept(first, second, third)
    claim = take(bench, first)
    twice = SendsTwice(bench.client, owner="w1@host/1", templates=bench.lanes._templates)

    following = write_back(twice, claim)

    assert following is not None
    assert following.event_id == second.trace_id
    assert following.attempt == 1
    assert bench.hints("process") == 1
    assert bench.hints("push") == 1


def test_a_settled_push_goes_on_likewise_and_repeatably(bench: Bench) -> None:
    first, second = event("a"), event("b")
    bench.accept(first, second)
    bench.processed(first)
    bench.processed(second)
    bench.client.rpop("push")
    twice = SendsTwice(bench.client, owner="w1@host/1", templates=bench.lanes._templates)

    following = twice.settle(bench.claim_reply(first), next_part=1, parts=1, go_on=GO_ON)

    assert following is not None
    assert (following.lane, following.head) == (outbox(second), second.trace_id)
    assert bench.counts() == {"accepted": 2, "answered": 1}


def test_hints_of_lanes_that_need_nobody_are_passed_over(bench: Bench) -> None:
    first, held, free = event("a"), event("b"), event("c")
    bench.accept(first, held, free)
    bench.claim(held, bench.other_worker())

    following = write_back(bench.lanes, take(bench, first))

    assert following is not None
    assert following.event_id == free.trace_id


def test_a_message_of_somebody_else_stays_where_it_is(bench: Bench) -> None:
    first = event("a")
    bench.accept(first)
    claim = take(bench, first)
    for foreign in ("no json", "{}", json.dumps({"body": "W10="}), json.dumps({"body": "[[5]]"})):
        bench.client.delete("process")
        bench.client.rpush("process", foreign)

        assert write_back(bench.lanes, claim) is None
        assert bench.client.lrange("process", 0, -1) == [foreign]
        # the next round needs a live claim again
        again = event("a")
        bench.client.delete("process")
        bench.accept(again)
        claim = take(bench, again)


def test_what_was_taken_is_swept_like_any_claim(bench: Bench) -> None:
    first, second = event("a"), event("b")
    bench.accept(first, second)
    write_back(bench.lanes, take(bench, first))  # and this worker dies

    bench.expire_lease(inbox(second))
    bench.client.zrem(keys.DUE, outbox(first))
    assert bench.sweep() == (1, 1)

    assert bench.claim(second, bench.other_worker()).attempt == 2
    assert bench.client.exists(BOT.event(second.trace_id))
