"""`clawdbot trace`: times, attempts, workers, routes and codes, while an event lives and after."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import redis

from shared.config import load_settings
from shared.messages import Event, Reply
from shared.state import keys
from shared.state.finished import Finished, read_finished
from shared.state.keys import LaneKeys
from tests.integration.gateway import HERE, environ_for
from tests.integration.lanes import BOT, TEMPLATES, Bench, event, inbox, outbox
from tests.redis_server import RedisServer
from workers.ops.context import Operator
from workers.ops.way import follow
from workers.redis_client import connect
from workers.store import Lanes

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"
NOTICE = Reply(("sorry",), kind="notice")
LOG_BYTES = 2048  #: as in `lua/_history.lua`
SHORT = 44  #: characters that take Redis no second allocation


@pytest.fixture
def operator(redis_server: RedisServer, redis_client: redis.Redis) -> Operator:
    settings = load_settings(environ_for(redis_server.url, FEISHU__APP_ID=BOT.app_id), cwd=HERE)
    return Operator(settings, redis_client, [BOT])


@pytest.fixture
def push(bench: Bench) -> Lanes:
    """A worker of the other stage."""
    return bench.other_worker("push@elsewhere/7")


def way(operator: Operator, of: Event) -> dict[str, Any]:
    return follow(operator, BOT, of.trace_id)


def told(found: dict[str, Any]) -> list[str]:
    return [step["what"] for step in found["steps"]]


def accepted(bench: Bench, **fields: Any) -> Event:
    made = event(**fields)
    bench.accept(made)
    return made


def line_of(bench: Bench, of: Event) -> tuple[str, Finished]:
    line = bench.client.get(BOT.event(of.trace_id)) or ""
    (day,) = bench.client.keys("clawdbot:words:*")
    return line, read_finished(line, bench.client.hgetall(day))


def test_a_living_event_shows_every_attempt_with_its_worker_and_code(
    bench: Bench, push: Lanes, operator: Operator
) -> None:
    first = accepted(bench)
    bench.lanes.retry(bench.claim(first), 0, "model:503: overloaded")
    bench.processed(first, "one", "two")
    push.retry(bench.claim_reply(first, push), 0, "feishu:230020: too fast")
    push.settle(bench.claim_reply(first, push), next_part=1, parts=2, route="reply")

    found = way(operator, first)

    assert found["fate"] == "waiting for push"
    assert sorted(told(found)[2:]) == [
        "process, attempt 1 by w1@host: model:503: overloaded",
        "push, attempt 1 by push@elsewhere: feishu:230020: too fast",
        "push, attempt 2 by push@elsewhere: part 1 of 2 delivered by reply",
        "reply written (attempts: 2, worker w1@host)",
    ]
    assert {step.get("code") for step in found["steps"]} == {
        None,
        "",
        "model:503",
        "feishu:230020",
    }


def test_a_dead_letter_shows_whether_its_notice_went_out(
    bench: Bench, push: Lanes, operator: Operator
) -> None:
    first = accepted(bench)
    bench.lanes.bury(bench.claim(first), "model:401: key refused", NOTICE)
    push.settle(bench.claim_reply(first, push), next_part=1, parts=1, route="reply")

    found = way(operator, first)

    assert (found["fate"], found["now"]) == ("dead", "")
    assert "push, attempt 1 by push@elsewhere: notice delivered by reply" in told(found)
    assert "dead: model:401: key refused" in told(found)


def test_a_replay_is_no_attempt(bench: Bench, operator: Operator) -> None:
    first = accepted(bench)
    bench.lanes.bury(bench.claim(first), "model:401: key refused", None)
    bench.lanes.replay(BOT, first.trace_id)

    assert "process: replayed" in told(way(operator, first))


def test_an_event_that_ends_while_it_is_looked_at_is_a_finished_one(
    bench: Bench, push: Lanes, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = accepted(bench)
    bench.processed(first, "one")
    claim = bench.claim_reply(first, push)
    read = operator.client.hgetall

    def ended_first(name: str) -> Any:
        monkeypatch.setattr(operator.client, "hgetall", read)
        push.settle(claim, next_part=1, parts=1, route="reply")
        return read(name)

    monkeypatch.setattr(operator.client, "hgetall", ended_first)

    assert way(operator, first)["fate"] == "answered"


def test_scripts_are_made_once_for_a_command(operator: Operator) -> None:
    assert operator.lanes is operator.lanes


def test_a_finished_event_still_tells_workers_route_and_last_failure(
    bench: Bench, push: Lanes, operator: Operator
) -> None:
    first = accepted(bench)
    bench.lanes.retry(bench.claim(first), 0, "model:503: overloaded")
    bench.processed(first)
    push.retry(bench.claim_reply(first, push), 0, "feishu:230020: too fast")
    push.settle(bench.claim_reply(first, push), next_part=1, parts=1, route="reply")

    found = way(operator, first)

    assert told(found) == [
        "accepted",
        "first claimed for processing",
        "reply written (attempts: 2, worker w1@host)",
        "answered (attempts to push: 2, route reply, worker push@elsewhere, "
        "last failure feishu:230020)",
    ]
    assert found["steps"][-1] | {"ms": 0, "what": ""} == {
        "ms": 0,
        "what": "",
        "attempts": 2,
        "route": "reply",
        "worker": "push@elsewhere",
        "code": "feishu:230020",
    }


@pytest.mark.parametrize(
    ("why", "code"),
    [
        ("model:503: overloaded", "model:503"),
        ("model:503", "model:503"),
        ("gave up after 12 attempts in 600 s: deadline:stall: no token", "deadline:stall"),
        ("poison: its process died each time it was worked on", "poison"),
        ("bug:KeyError at process.py:60 work", "bug:KeyError"),
        ("dingtalk:Forbidden.AccessDenied.QpsLimitForApi: wait", None),
    ],
)
def test_the_code_of_a_failure_is_its_first_words(bench: Bench, why: str, code: str | None) -> None:
    first = accepted(bench)
    bench.lanes.bury(bench.claim(first), why, None)
    bench.lanes.drop(BOT, [first.trace_id])

    assert line_of(bench, first)[1].code == (code or why.partition(": ")[0])


def test_what_stays_is_short_for_all_but_the_oldest(bench: Bench, push: Lanes) -> None:
    """16 hours in the lanes, after as many attempts as one digit counts."""
    first = accepted(bench)
    bench.processed(first)
    claim = bench.claim_reply(first, push)
    now, key = int(claim.now_ms), BOT.event(first.trace_id)
    times = {"accepted": now - 16 * 3600_000, "claimed": now - 16 * 3600_000 + 46_000}
    bench.client.hset(key, mapping={**times, "process_tries": 99, "written": now - 56_000_000})
    push.settle(claim, next_part=1, parts=1, route="a-route-with-a-long-name")

    line, finished = line_of(bench, first)

    assert len(line) <= SHORT
    assert finished.accepted_ms == times["accepted"]
    assert finished.claimed_ms == times["claimed"]
    assert finished.written_ms == now - 56_000_000
    assert now <= finished.ended_ms <= now + 60_000
    assert (finished.process_tries, finished.push_tries) == (35, 1)


def test_a_day_with_too_many_names_loses_names_and_nothing_else(bench: Bench) -> None:
    first = accepted(bench)
    day = int(bench.client.hget(BOT.event(first.trace_id), "accepted") or 0) // 86_400_000
    for number in (day, day + 1):  # midnight may pass
        bench.client.hset(keys.words(number), mapping={f"w{n}": "xx" for n in range(36 * 36)})
    bench.processed(first)
    bench.lanes.settle(bench.claim_reply(first), next_part=1, parts=1, route="reply")

    line = bench.client.get(BOT.event(first.trace_id)) or ""
    finished = read_finished(line, {})
    assert (finished.fate, finished.route, finished.push_tries) == ("answered", "", 1)


def test_names_are_forgotten_after_the_lines_that_use_them(bench: Bench) -> None:
    first = accepted(bench)
    bench.processed(first)
    bench.lanes.settle(bench.claim_reply(first), next_part=1, parts=1, route="reply")

    (words,) = bench.client.keys("clawdbot:words:*")
    assert 2 * 86_400 < bench.client.ttl(words) <= 3 * 86_400
    assert set(bench.client.hgetall(words)) == {"w1@host", "reply"}


def test_the_line_of_the_first_release_is_read_for_the_day_it_stands(
    bench: Bench, operator: Operator
) -> None:
    first = event()
    bench.client.set(BOT.event(first.trace_id), "a 1763791199823 1200 2400 1 2 abcdefgh")

    assert told(way(operator, first)) == [
        "accepted",
        "reply written (attempts: 1)",
        "answered (attempts to push: 2)",
    ]


def test_a_log_of_the_first_release_names_no_worker(bench: Bench, operator: Operator) -> None:
    first = accepted(bench)
    bench.client.hset(BOT.event(first.trace_id), "log", "1763791199823\tprocess\t1\tmodel:503: x\n")

    assert "process, attempt 1: model:503: x" in told(way(operator, first))


def test_a_long_log_in_chinese_keeps_its_newest_whole_lines(
    bench: Bench, operator: Operator
) -> None:
    first = accepted(bench)
    for number in range(60):  # of every length, so that a cut by bytes would hit a character
        bench.lanes.retry(
            bench.claim(first), 0, f"dingtalk:-1: {'系统繁忙，' * (number % 7)}{number}"
        )

    record = bench.claim(first).record
    attempts = [step for step in told(way(operator, first)) if "attempt " in step]

    assert "\ufffd" not in record["log"]
    assert len(record["log"].encode()) <= LOG_BYTES
    assert len(attempts) > 10
    assert attempts[-1].startswith("process, attempt 60 by w1@host: dingtalk:-1: ")
    assert attempts[-1].endswith("59")


def test_a_log_cut_by_an_earlier_version_stops_nothing(bench: Bench, operator: Operator) -> None:
    first = accepted(bench)
    cut = "系统繁忙".encode()[1:] + b"\n1763791199823\tprocess\t1 w1\tmodel:503: x\n"
    bench.client.hset(BOT.event(first.trace_id), "log", cut)
    client = connect(operator.settings, max_connections=2)

    claim = Lanes(client, owner="w1@host/1", templates=TEMPLATES).claim(inbox(first), 1)

    assert claim is not None
    assert "process, attempt 1 by w1: model:503: x" in told(
        follow(replace(operator, client=client), BOT, first.trace_id)
    )
    client.close()


def test_now_says_who_works_on_it(bench: Bench, operator: Operator) -> None:
    first, second = accepted(bench), accepted(bench)
    claim = bench.claim(first)

    assert way(operator, first)["now"].startswith("attempt 1 by w1@host since 20")
    assert way(operator, second)["now"] == "behind 1 of its conversation"
    bench.lanes.retry(claim, 3600, "model:503: overloaded")
    assert way(operator, first)["now"].startswith("next attempt at 20")


def test_now_says_that_a_reply_waits_for_a_worker(bench: Bench, operator: Operator) -> None:
    first = accepted(bench)
    bench.processed(first)

    assert way(operator, first)["now"] == "until a worker is free"


def test_the_callers_trace_id_is_shown_else_ours_filled_up(
    bench: Bench, operator: Operator
) -> None:
    theirs, ours = accepted(bench, traceparent=PARENT), accepted(bench)

    assert way(operator, theirs)["w3c_trace_id"] == TRACE_ID
    assert way(operator, ours)["w3c_trace_id"] == f"00000000{ours.trace_id}"
    assert operator.find(f"00000000{ours.trace_id}") == (BOT, ours.trace_id)
    assert operator.find(TRACE_ID) is None, "there is no index of callers' traces"


def test_a_callers_trace_survives_retries_death_and_replay(bench: Bench) -> None:
    first = accepted(bench, traceparent=PARENT, tracestate="rojo=1")
    bench.lanes.retry(bench.claim(first), 0, "model:503: overloaded")
    bench.lanes.bury(bench.claim(first), "model:401: key refused", None)
    bench.lanes.replay(BOT, first.trace_id)

    again = Event.from_wire(bench.claim(first).record["event"], str)

    assert again.trace == first.trace


def test_a_worker_that_sends_its_call_twice_leaves_one_line(bench: Bench, push: Lanes) -> None:
    first = accepted(bench)
    bench.processed(first, "one", "two")
    for part in (1, 2):
        claim = bench.claim_reply(first, push)
        for _ in range(2):
            push.settle(claim, next_part=part, parts=2, route="reply")
            if part == 1:
                log = bench.client.hget(BOT.event(first.trace_id), "log") or ""
                assert log.count("delivered") == 1
    assert line_of(bench, first)[1].push_tries == 2
    assert bench.counts() == {"accepted": 1, "answered": 1}
    assert not bench.client.exists(outbox(first), inbox(first), LaneKeys(outbox(first)).state)
