"""accept.lua: recorded once, counted, and its lane woken."""

from __future__ import annotations

import json

from ingress.inbox import MAX_BATCH_EVENTS
from shared.state import keys
from shared.state.keys import LaneKeys
from tests.integration.lanes import BOT, Bench, event, inbox


def test_an_event_is_recorded_and_its_lane_is_woken(bench: Bench) -> None:
    first = event()

    assert bench.accept(first) == ["accepted"]

    assert bench.client.lrange(inbox(first), 0, -1) == [first.trace_id]
    assert bench.hints("process") == 1
    assert bench.client.zscore(keys.DUE, inbox(first)) is not None
    assert bench.counts() == {"accepted": 1}


def test_the_hint_carries_the_lane_a_number_and_the_trace_id_alone(bench: Bench) -> None:
    first = event(text="top secret")
    bench.accept(first)

    message = bench.client.lindex("process", 0)

    args, kwargs, _ = json.loads(json.loads(message)["body"])
    assert args == [inbox(first), "1", first.trace_id]
    assert kwargs == {}
    assert "secret" not in message


def test_a_second_event_of_a_busy_lane_needs_no_hint(bench: Bench) -> None:
    bench.accept(event(), event())

    assert bench.hints("process") == 1


def test_the_same_message_id_is_a_duplicate(bench: Bench) -> None:
    first = event()

    assert bench.accept(first, first) == ["accepted", "duplicate"]
    assert bench.accept(event(message_id=first.message_id)) == ["duplicate"]
    assert bench.counts() == {"accepted": 1, "duplicate": 2}


def test_the_same_event_id_is_a_duplicate(bench: Bench) -> None:
    first = event()
    bench.accept(first)

    assert bench.accept(event(event_id=first.event_id)) == ["duplicate"]


def test_a_finished_event_stays_a_duplicate(bench: Bench) -> None:
    first = event()
    bench.accept(first)
    bench.processed(first)
    bench.lanes.settle(bench.claim_reply(first), next_part=1, parts=1)

    assert bench.accept(first) == ["duplicate"]


def test_events_over_the_qps_limit_are_refused_and_leave_nothing(bench: Bench) -> None:
    events = [event(f"oc_{n}") for n in range(60)]

    answers = bench.accept(*events, qps=20)

    assert answers.count("accepted") == 20
    assert answers.count("rate_limited") == 40
    assert bench.client.zcard(keys.DUE) == 20


def test_a_duplicate_is_not_charged_to_the_qps_limit(bench: Bench) -> None:
    first = event()
    bench.accept(first)

    assert bench.accept(first, event(), qps=1) == ["duplicate", "accepted"]


def test_a_full_bot_refuses_until_something_is_finished(bench: Bench) -> None:
    first, second, third = event("a"), event("b"), event("c")

    assert bench.accept(first, second, third, bot=2) == ["accepted", "accepted", "queue_full"]

    bench.processed(first)
    bench.lanes.settle(bench.claim_reply(first), next_part=1, parts=1)
    assert bench.accept(third, bot=2) == ["accepted"]


def test_a_full_conversation_refuses_and_others_go_on(bench: Bench) -> None:
    answers = bench.accept(event("a"), event("a"), event("a"), event("b"), conv=2)

    assert answers == ["accepted", "accepted", "conversation_full", "accepted"]


def test_a_replayed_reply_counts_towards_its_conversation(bench: Bench) -> None:
    first = event("a")
    bench.accept(first)
    bench.processed(first)

    assert bench.accept(event("a"), conv=1) == ["conversation_full"]


def test_the_session_webhook_is_not_in_the_record_as_it_came(bench: Bench) -> None:
    first = event(reply_secret="https://oapi.example/robot?session=abc")

    wire = first.to_wire(lambda secret: secret[::-1])

    assert "session=abc" not in wire
    assert "cba=noisses" in wire


def test_odd_conversation_ids_make_lanes_that_need_no_escaping(bench: Bench) -> None:
    odd = event('oc"\\ \n群:' + "x" * 300)

    assert bench.accept(odd) == ["accepted"]

    message = json.loads(bench.client.lindex("process", 0))
    assert json.loads(message["body"])[0][0] == inbox(odd)
    assert inbox(odd).startswith(f"{BOT.prefix}:conv:~")


def test_the_tasks_of_both_stages_have_names_of_their_own(bench: Bench) -> None:
    first = event()
    bench.accept(first)
    bench.processed(first)

    process, push = (json.loads(bench.client.lindex(queue, 0)) for queue in ("process", "push"))

    assert process["headers"]["id"] == f"{first.trace_id}.process.1"
    assert push["headers"]["id"] == f"{first.trace_id}.push.1"


def test_one_call_wakes_its_lanes_in_order_with_numbers_of_their_own(bench: Bench) -> None:
    bench.accept(event("before"))
    events = [event(f"oc_{n}") for n in range(5)]

    assert bench.accept(*events, events[0], event("oc_0")) == ["accepted"] * 5 + [
        "duplicate",
        "accepted",
    ]

    waiting = bench.client.lrange("process", 0, -1)[::-1][1:]
    hints = [json.loads(json.loads(message)["body"])[0] for message in waiting]
    assert hints == [[inbox(e), str(n), e.trace_id] for n, e in enumerate(events, start=2)]
    for number, e in enumerate(events, start=2):
        state = bench.client.hgetall(LaneKeys(inbox(e)).state)
        assert state == {"hint": str(number), "hints": "0"}
        assert bench.client.zscore(keys.DUE, inbox(e)) is not None
    assert bench.client.hget(keys.HINTS, "process:issued") == "6"
    assert bench.counts() == {"accepted": 7, "duplicate": 1}


def test_a_largest_batch_is_one_call(bench: Bench) -> None:
    events = [event(f"oc_{n}") for n in range(MAX_BATCH_EVENTS)]

    assert bench.accept(*events) == ["accepted"] * MAX_BATCH_EVENTS
    assert bench.accept(*events) == ["duplicate"] * MAX_BATCH_EVENTS
    assert bench.hints("process") == MAX_BATCH_EVENTS


def test_the_qps_counter_counts_over_calls_and_goes_away(bench: Bench) -> None:
    outcomes = [bench.accept(event(), event(), qps=1_000) for _ in range(3)]

    assert outcomes == [["accepted"] * 2] * 3
    counters = bench.client.keys(f"{keys.QPS_PREFIX}*")
    assert sum(int(bench.client.get(name)) for name in counters) == 6
    assert all(0 < bench.client.ttl(name) <= 2 for name in counters)


def test_what_is_remembered_of_a_day_ends_with_the_third(bench: Bench) -> None:
    for _ in range(2):
        bench.accept(event(), event())

    (name,) = bench.client.keys("*:seen:*")
    assert bench.client.scard(name) == 4
    assert 2 * 86400 < bench.client.ttl(name) <= 3 * 86400
