"""Both stages with a real Redis and the simulated platforms: every failure has its decided fate."""

from __future__ import annotations

import dataclasses
import json
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from shared.config.live import Live
from shared.envelope import PROCESS, PUSH
from shared.messages import Event
from shared.state import keys
from shared.state.keys import LaneKeys
from tests.integration.lanes import TEMPLATES
from tests.integration.stages import OWNER, Stack
from tests.simulator.ledger import REPEAT, ModelCall
from tests.simulator.world import Pace
from workers.claim import Claim, GoOn
from workers.claim_keeper import ClaimKeeper
from workers.limits import time_limits
from workers.metrics import Metrics
from workers.runtime import Runtime
from workers.store import Lanes

MINUTE_MS = 60_000
DINGTALK, FEISHU = "dingtalk", "feishu"


@pytest.mark.parametrize("platform", [DINGTALK, FEISHU])
def test_a_message_is_answered_once_and_little_stays(platform: str, stack: Stack) -> None:
    event = stack.answer(platform, text="how are you?")
    stack.push(event)
    stack.push(event)
    stack.process(event)

    (send,) = stack.sends()
    assert "how are you?" in send.text
    assert stack.is_answered(event)
    assert stack.counts(event) == {"accepted": 1, "answered": 1}
    assert stack.client.memory_usage(stack.key(event)) <= 300
    assert stack.client.zcard(keys.DUE) == 0


def test_the_model_is_reminded_of_the_conversation(stack: Stack) -> None:
    for text in ("first", "second"):
        stack.push(stack.answer(FEISHU, text=text))

    last = [record for record in stack.world.ledger.since(0) if isinstance(record, ModelCall)][-1]
    assert (last.text, last.messages) == ("second", 3)


def test_who_wrote_is_known_as_long_as_others_may_keep_it_remembered(stack: Stack) -> None:
    event = stack.answer(FEISHU)

    known_s = stack.client.ttl(LaneKeys(stack.lane(event)).bot.talks(event.sender_id))
    longest_s = stack.settings.conversation.ttl_s * stack.settings.conversation.turns
    assert known_s == pytest.approx(longest_s, abs=60)


def test_a_transient_failure_puts_attempts_and_due_time_into_the_lane(stack: Stack) -> None:
    stack.fault("model", "status", status=503, headers={"Retry-After": "30"})
    event = stack.write(FEISHU)
    before = stack.now_ms()

    stack.process(event)
    stack.process(event)  # not due yet: nothing happens

    state = stack.state(stack.lane(event))
    assert state["tries"] == "1"
    assert before + 30_000 <= int(state["retry"]) <= stack.now_ms() + 31_000
    assert stack.client.zscore(keys.DUE, stack.lane(event)) == int(state["retry"])
    assert "claim" not in state
    assert "model:503" in stack.record(event)["log"]
    assert stack.model_calls() == 1

    stack.make_due(stack.lane(event))
    stack.process(event)
    assert stack.model_calls() == 2
    assert stack.client.exists(stack.outbox(event))


def test_a_failed_push_never_pays_for_the_model_again(stack: Stack) -> None:
    event = stack.answer(FEISHU)
    for _ in range(3):
        stack.fault("feishu.reply", "status", status=500)
        stack.push(event)
        stack.make_due(stack.outbox(event))
    stack.push(event)

    assert stack.is_answered(event)
    assert stack.model_calls() == 1
    assert len(stack.sends()) == 1


def test_a_failure_that_outlasts_the_limit_is_a_dead_letter(
    make_stack: Callable[..., Stack],
) -> None:
    stack = make_stack(RETRY__PROCESS_LIMIT_S="0")
    stack.fault("model", "status", status=503)
    event = stack.write(FEISHU)

    stack.process(event)

    assert stack.counts(event) == {"accepted": 1, "dead": 1}
    assert "gave up after 1 attempts" in stack.record(event)["dead_reason"]


@pytest.mark.parametrize(
    ("text", "words"),
    [("你好", "机器人的设置有误，请告知管理员。"), ("hello", "The bot is not set up correctly")],
    ids=["zh", "en"],
)
def test_a_permanent_failure_is_a_dead_letter_and_a_notice_in_ones_language(
    text: str, words: str, stack: Stack
) -> None:
    stack.fault("model", "status", status=401)
    event = stack.write(FEISHU, text)

    stack.process(event)
    stack.push(event)

    (notice,) = stack.sends()
    assert words in notice.text
    assert event.trace_id in notice.text
    record = stack.record(event)
    assert record["dead_stage"] == "process"
    assert record["dead_reason"].startswith("model:401")
    assert stack.counts(event) == {"accepted": 1, "dead": 1}
    assert stack.client.zcard(keys.DUE) == 0


def test_an_undeliverable_answer_is_a_dead_letter_and_the_lane_goes_on(stack: Stack) -> None:
    first, second = stack.answer(FEISHU, text="one"), stack.answer(FEISHU, text="two")
    stack.fault("feishu.reply", "errcode", code=230002, message="not in the chat")

    for _ in range(3):
        stack.push(first)

    assert stack.record(first)["dead_stage"] == "push"
    assert "230002" in stack.record(first)["dead_reason"]
    assert stack.is_answered(second)
    notice, answer = stack.sends()
    assert "could not be delivered" in notice.text
    assert "two" in answer.text


@pytest.mark.parametrize("failures", [1, 2])
def test_a_notice_in_its_replys_place_has_one_attempt_when_the_replys_time_is_over(
    failures: int, stack: Stack
) -> None:
    first, second = stack.answer(FEISHU, text="one"), stack.answer(FEISHU, text="two")
    stack.fault("feishu.reply", "status", status=503, times=failures)
    since = stack.now_ms() - 31 * MINUTE_MS
    stack.client.hset(LaneKeys(stack.outbox(first)).state, "since", since)

    stack.push(first)
    assert int(stack.state(stack.outbox(first))["since"]) == since
    for _ in range(2):
        stack.push(first)

    assert stack.record(first)["dead_reason"].startswith("gave up")
    assert stack.is_answered(second)
    assert len(stack.sends()) == 3 - failures


def test_a_conversation_gets_one_notice_a_minute(stack: Stack) -> None:
    stack.fault("model", "status", status=401, times=2)
    events = [stack.write(FEISHU), stack.write(FEISHU)]
    for event in events:
        stack.process(event)

    assert stack.client.lrange(stack.outbox(events[0]), 0, -1) == ["!" + events[0].trace_id]
    assert stack.counts(events[0])["dead"] == 2


@pytest.fixture
def courteous(make_stack: Callable[..., Stack]) -> Stack:
    """Its bots say when it takes longer."""
    return make_stack(FEISHU__NOTICE_AFTER_S="9", DINGTALK__NOTICE_AFTER_S="9")


def let_wait(stack: Stack, platform: str, **more: Any) -> Event:
    """An event whose word that it takes longer stands in the outbox."""
    event = stack.write(platform, **more)
    stack.client.zadd(keys.WAITING, {stack.key(event): 1}, xx=True)
    assert stack.runtime.lanes.tell_waiting(limit=10) == (1, 1)
    return event


@pytest.mark.parametrize(
    ("platform", "text", "word"),
    [
        (FEISHU, "how long?", "Still working on it, one moment please."),
        (DINGTALK, "多久？", "还在处理，请稍等。"),
    ],
)
def test_who_waits_is_told_and_then_answered(
    platform: str, text: str, word: str, courteous: Stack
) -> None:
    event = let_wait(courteous, platform, text=text)
    courteous.push(event)
    courteous.process(event)
    courteous.push(event)

    told, answer = courteous.sends()
    assert told.text == word
    assert text in answer.text
    assert courteous.is_answered(event)
    assert courteous.counts(event) == {"accepted": 1, "answered": 1}
    assert courteous.client.zcard(keys.DUE) == 0


def test_the_word_has_an_idempotency_key_of_its_own(courteous: Stack) -> None:
    event = let_wait(courteous, FEISHU)
    courteous.push(event)

    assert [send.uuid for send in courteous.sends()] == [f"{event.trace_id}-w0"]


@pytest.mark.parametrize(
    "fault", [{"kind": "status", "status": 500}, {"kind": "lose_response"}], ids=["failed", "lost"]
)
def test_a_word_that_fails_is_not_sent_again_and_holds_nobody_up(
    fault: dict[str, Any], courteous: Stack
) -> None:
    courteous.fault("feishu.reply", **fault)
    event = let_wait(courteous, FEISHU)
    courteous.push(event)
    courteous.process(event)
    courteous.push(event)

    assert courteous.is_answered(event)
    assert [send.uuid[-2:] for send in courteous.sends()] in (["a0"], ["w0", "a0"])
    assert courteous.counts(event) == {"accepted": 1, "answered": 1}


def test_a_word_whose_worker_died_is_perhaps_said_and_not_said_again(courteous: Stack) -> None:
    event = let_wait(courteous, FEISHU)
    assert courteous.runtime.lanes.claim(courteous.outbox(event), 1)
    courteous.client.hset(LaneKeys(courteous.outbox(event)).state, "lease", "1")

    courteous.push(event)

    assert courteous.sends() == []
    assert "notice:once" in courteous.record(event)["log"]
    assert not courteous.client.exists(courteous.outbox(event))


@pytest.mark.parametrize(("notice_after_s", "is_put_off"), [("9", True), ("0", False)])
def test_an_answer_that_has_begun_puts_the_word_off(
    notice_after_s: str, is_put_off: bool, make_stack: Callable[..., Stack]
) -> None:
    stack = make_stack(FEISHU__NOTICE_AFTER_S=notice_after_s)
    stack.world.pace = Pace(tokens=4, token_interval_s=0.3)
    event = stack.write(FEISHU)
    first_due = stack.client.zscore(keys.WAITING, stack.key(event)) or 0
    worker = threading.Thread(target=stack.process, args=(event,))
    worker.start()
    dues = set()
    while worker.is_alive():
        dues.add(stack.client.zscore(keys.WAITING, stack.key(event)) or 0)
        time.sleep(0.01)

    assert any(due > first_due for due in dues) is is_put_off
    assert not stack.client.exists(keys.WAITING)


def test_a_redis_that_does_not_put_the_word_off_costs_no_answer(
    courteous: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    event = courteous.write(FEISHU)
    courteous.client.config_set("maxmemory", 1)
    try:
        with caplog.at_level(logging.WARNING):
            courteous.process(event)
            await_message(caplog, "notice.not_put_off")
    finally:
        courteous.client.config_set("maxmemory", 0)

    assert courteous.client.lrange(courteous.outbox(event), 0, -1) == [event.trace_id]


def test_a_failed_notice_causes_no_notice(stack: Stack) -> None:
    stack.fault("model", "status", status=401)
    stack.fault("feishu.reply", "errcode", code=230002)
    event = stack.write(FEISHU)
    stack.process(event)
    stack.client.delete(LaneKeys(stack.lane(event)).noticed)

    stack.push(event)

    assert stack.sends() == []
    assert not stack.client.exists(stack.outbox(event))
    assert stack.counts(event) == {"accepted": 1, "dead": 1}


def test_a_poisonous_message_is_buried_without_being_run(stack: Stack) -> None:
    event = stack.write(FEISHU)
    stack.client.hset(LaneKeys(stack.lane(event)).state, mapping={"losses": 2, "own_losses": 3})

    stack.process(event)

    assert stack.model_calls() == 0
    assert stack.record(event)["dead_reason"].startswith("poison")


def test_nothing_is_recorded_for_a_claim_that_somebody_else_took(
    stack: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    event = stack.write(FEISHU)
    others: list[Claim | None] = []
    whole = stack.runtime.process

    def overtaken(claim: Claim, go_on: Callable[[], GoOn]) -> Claim | None:
        stack.client.hset(LaneKeys(claim.lane).state, "lease", "1")
        other = Lanes(stack.client, owner="w2@host/2", templates=TEMPLATES)
        others.append(other.claim(claim.lane, 1))
        return whole.work(claim, go_on)

    with caplog.at_level(logging.WARNING):
        dataclasses.replace(whole, work=overtaken).run(stack.lane(event), 1)

    assert others[0] is not None
    assert stack.state(stack.lane(event))["claim"] == others[0].id
    assert "reply" not in stack.record(event)
    assert not stack.client.exists(stack.outbox(event))
    assert "claim.lost" in caplog.messages


def test_our_own_bug_is_tried_three_times_and_buried_without_its_text(stack: Stack) -> None:
    event = stack.write(FEISHU)

    def buggy(*_: Any) -> None:
        raise ValueError("the person's words")

    stage = dataclasses.replace(stack.runtime.process, work=buggy)
    for _ in range(4):
        stage.run(stack.lane(event), 1)
        if stack.client.exists(stack.lane(event)):
            stack.make_due(stack.lane(event))

    record = stack.record(event)
    assert record["process_tries"] == "3"
    assert record["dead_reason"].startswith("bug:ValueError at test_stages.py")
    assert "words" not in record["log"]


#: A worker of other settings, as in a rollout: it lacks the bot, or the key of its seals.
OTHERS = [
    (FEISHU, {"FEISHU__APP_ID": "cli_other"}, "bot:unknown"),
    (DINGTALK, {"DINGTALK__APP_SECRET": "another-secret"}, "vault:unreadable"),
]


@pytest.mark.parametrize(("platform", "settings", "code"), OTHERS)
def test_what_a_worker_can_t_read_is_left_to_one_that_can(
    platform: str,
    settings: dict[str, str],
    code: str,
    stack: Stack,
    make_stack: Callable[..., Stack],
) -> None:
    event = stack.write(platform)
    other = make_stack(**settings)

    other.runtime.process.run(stack.lane(event), 1)
    assert code in stack.record(event)["log"]
    stack.make_due(stack.lane(event))
    stack.process(event)
    other.runtime.push.run(stack.outbox(event), 1)
    stack.make_due(stack.outbox(event))
    stack.push(event)

    assert stack.is_answered(event)
    assert stack.counts(event) == {"accepted": 1, "answered": 1}


@pytest.mark.parametrize(("platform", "settings", "code"), OTHERS)
def test_what_no_worker_can_read_in_time_is_a_dead_letter_without_notice(
    platform: str,
    settings: dict[str, str],
    code: str,
    stack: Stack,
    make_stack: Callable[..., Stack],
) -> None:
    event = stack.write(platform)
    stack.client.hset(LaneKeys(stack.lane(event)).state, "since", "1")

    make_stack(**settings).runtime.process.run(stack.lane(event), 1)

    assert code in stack.record(event)["dead_reason"]
    assert not stack.client.exists(stack.outbox(event))
    assert stack.counts(event) == {"accepted": 1, "dead": 1}


LIMITS_MS = {"accepted": 10 * MINUTE_MS, "written": 30 * MINUTE_MS}


@pytest.mark.parametrize("stamp", LIMITS_MS)
@pytest.mark.parametrize(("platform", "settings", "code"), OTHERS)
def test_what_no_worker_can_read_holds_up_its_conversation_once(
    platform: str,
    settings: dict[str, str],
    code: str,
    stamp: str,
    stack: Stack,
    make_stack: Callable[..., Stack],
) -> None:
    """The one behind it waited as long: it has no time of its own, but three attempts."""
    events = [stack.write(platform) for _ in range(3)]
    runtime, lane = make_stack(**settings).runtime, stack.lane(events[0])
    if stamp == "written":
        for event in events:
            stack.process(event)
    stage = runtime.process if stamp == "accepted" else runtime.push
    lane = lane if stamp == "accepted" else stack.outbox(events[0])
    for event in events[:2]:  # the third came just now
        stack.client.hset(stack.key(event), stamp, stack.now_ms() - LIMITS_MS[stamp])

    for _ in range(9):
        stage.run(lane, 1)
        if stack.client.hexists(LaneKeys(lane).state, "retry"):
            stack.make_due(lane)

    records = [stack.record(event) for event in events]
    assert all(code in record["dead_reason"] for record in records[:2])
    tries = "process_tries" if stamp == "accepted" else "push_tries"
    assert [record[tries] for record in records] == ["3", "3", "3"]
    assert "dead" not in records[2]
    assert stack.counts(events[0]) == {"accepted": 3, "dead": 2}


def test_a_lost_response_is_sent_again_under_the_same_key(stack: Stack) -> None:
    event = stack.answer(FEISHU)
    stack.fault("feishu.reply", "lose_response")

    stack.push(event)
    unsure = stack.state(stack.outbox(event))["unsure"]
    stack.make_due(stack.outbox(event))
    stack.push(event)

    assert int(unsure) <= stack.now_ms()
    assert stack.is_answered(event)
    assert (len(stack.sends()), len(stack.sends(REPEAT))) == (1, 1)
    assert stack.counts(event) == {"accepted": 1, "answered": 1}


def with_uncertainty(stack: Stack, event: Event, age_ms: int) -> None:
    unsure = stack.now_ms() - age_ms
    stack.client.hset(LaneKeys(stack.outbox(event)).state, "unsure", unsure)


@pytest.mark.parametrize(("minutes", "uncertain"), [(54, 0), (56, 1)])
def test_a_key_is_trusted_for_55_minutes(minutes: int, uncertain: int, stack: Stack) -> None:
    event = stack.answer(FEISHU)
    with_uncertainty(stack, event, minutes * MINUTE_MS)

    stack.push(event)

    assert stack.is_answered(event)
    assert stack.counts(event).get("uncertain", 0) == uncertain


def test_an_uncertain_send_past_its_key_may_be_held_for_a_person(
    make_stack: Callable[..., Stack],
) -> None:
    stack = make_stack(FEISHU__UNCERTAIN_SEND="hold")
    event = stack.answer(FEISHU)
    with_uncertainty(stack, event, 56 * MINUTE_MS)

    stack.push(event)

    assert stack.record(event)["dead_reason"].startswith("uncertain_send")
    assert stack.sends() == []
    assert stack.counts(event) == {"accepted": 1, "dead": 1, "uncertain": 1}


def test_within_its_key_a_send_is_repeated_even_where_uncertain_ones_are_held(
    make_stack: Callable[..., Stack],
) -> None:
    stack = make_stack(FEISHU__UNCERTAIN_SEND="hold")
    event = stack.answer(FEISHU)
    stack.fault("feishu.reply", "lose_response")
    stack.push(event)
    stack.make_due(stack.outbox(event))
    stack.push(event)

    assert stack.is_answered(event)
    assert len(stack.sends()) == 1


@pytest.mark.parametrize("route", ["session", "robot"])
def test_an_unknown_outcome_without_a_key_is_sent_again_and_counted(
    route: str, stack: Stack
) -> None:
    event = stack.answer(DINGTALK, webhook_expires_in_s=5400 if route == "session" else -1)
    stack.fault(f"dingtalk.{route}", "lose_response")
    stack.push(event)
    stack.make_due(stack.outbox(event))
    stack.push(event)

    assert stack.is_answered(event)
    assert [send.route for send in stack.sends()] == [route, route]
    assert stack.counts(event) == {"accepted": 1, "answered": 1, "uncertain": 1}


def test_an_unknown_outcome_without_a_key_may_be_held_at_once(
    make_stack: Callable[..., Stack],
) -> None:
    stack = make_stack(DINGTALK__UNCERTAIN_SEND="hold")
    event = stack.answer(DINGTALK)
    stack.fault("dingtalk.session", "lose_response")

    stack.push(event)

    assert stack.record(event)["dead_reason"].startswith("uncertain_send")
    assert len(stack.sends()) == 1


def test_an_expired_session_falls_back_to_the_robot_in_the_same_attempt(stack: Stack) -> None:
    event = stack.answer(DINGTALK)
    stack.world.expire_sessions()

    stack.push(event)

    assert [send.route for send in stack.sends()] == ["robot"]
    assert stack.is_answered(event)


def test_a_reply_without_an_open_route_is_a_dead_letter(stack: Stack) -> None:
    event = stack.write(DINGTALK, webhook_expires_in_s=-1)
    record = json.loads(stack.record(event)["event"])
    record["reply_address"]["staff_id"] = ""
    stack.client.hset(stack.key(event), "event", json.dumps(record))
    stack.process(event)

    stack.push(event)

    assert stack.record(event)["dead_reason"].startswith("push:no_route")


@pytest.mark.parametrize("platform", [DINGTALK, FEISHU])
def test_a_refused_token_is_dropped_and_one_new_one_fetched(platform: str, stack: Stack) -> None:
    fetches = stack.fault(f"{platform}.token", "slow", times=0)
    first = stack.answer(platform, text="one", webhook_expires_in_s=-1)
    stack.push(first)
    tokens = stack.world.dingtalk_tokens if platform == DINGTALK else stack.world.feishu_tokens
    tokens.expire()
    second = stack.answer(platform, text="two", webhook_expires_in_s=-1)

    stack.push(second)

    assert stack.is_answered(second)
    assert fetches.hits == 2
    assert len(stack.sends()) == 2


def away(*_: Any, **__: Any) -> Any:
    """In the place of a call to Redis."""
    raise RedisConnectionError("cut")


def test_a_refused_token_that_redis_does_not_drop_is_a_failed_attempt_of_a_known_outcome(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.push(stack.answer(FEISHU, text="one"))
    stack.world.feishu_tokens.expire()
    event = stack.answer(FEISHU, text="two")

    with monkeypatch.context() as patch:
        patch.setattr("workers.tokens.TokenCache.drop", away)
        stack.push(event)

    state = stack.state(stack.outbox(event))
    assert "claim" not in state, "it waits for its retry, and not for the lease's end"
    assert "unsure" not in state
    stack.make_due(stack.outbox(event))
    stack.push(event)
    assert stack.is_answered(event)


def test_a_count_that_redis_does_not_take_costs_no_attempt(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = stack.answer(DINGTALK)
    with_uncertainty(stack, event, MINUTE_MS)
    monkeypatch.setattr(stack.runtime.redis, "hincrby", away)

    stack.push(event)

    assert stack.is_answered(event)
    assert len(stack.sends()) == 1


def test_a_platform_that_refuses_every_token_is_tried_again_later(stack: Stack) -> None:
    event = stack.answer(FEISHU)
    stack.fault("feishu.reply", "errcode", code=99991663, times=2)

    stack.push(event)

    assert stack.state(stack.outbox(event))["tries"] == "1"
    stack.make_due(stack.outbox(event))
    stack.push(event)
    assert stack.is_answered(event)


def test_a_lost_token_response_does_not_make_the_send_uncertain(stack: Stack) -> None:
    event = stack.answer(FEISHU)
    stack.fault("feishu.token", "lose_response")

    stack.push(event)

    assert "unsure" not in stack.state(stack.outbox(event))
    assert stack.sends() == []


def test_each_part_of_a_long_reply_is_settled_alone_and_in_order(stack: Stack) -> None:
    stack.fault("model", "long", chars=60_000)
    event = stack.answer(FEISHU)
    stack.push(event)
    stack.fault("feishu.reply", "status", status=500)
    for _ in range(6):
        stack.push(event)
        if stack.state(stack.outbox(event)):
            stack.make_due(stack.outbox(event))

    sent = stack.sends()
    assert stack.is_answered(event)
    assert [send.uuid for send in sent] == [f"{event.trace_id}-a{n}" for n in range(len(sent))]
    assert len(sent) > 1


def test_neither_session_webhook_nor_token_can_be_read_in_redis(stack: Stack) -> None:
    event = stack.answer(DINGTALK)
    stack.push(stack.answer(DINGTALK, conversation="other", webhook_expires_in_s=-1))

    assert "session=" in event.reply_secret
    secret = event.reply_secret.partition("session=")[2]
    token = stack.world.dingtalk_tokens.issue()[0]
    everything = b"".join(stack.client.dump(key) or b"" for key in raw_keys(stack))
    assert secret.encode() not in everything
    assert token.encode() not in everything


def raw_keys(stack: Stack) -> list[str]:
    found: list[str] = stack.client.keys()
    assert any(key.endswith(":token") for key in found)
    return found


def lease_ms(stack: Stack, claim: Claim) -> int:
    return int(stack.state(claim.lane)["lease"])


def test_a_held_claim_is_renewed_until_its_limit(stack: Stack) -> None:
    event = stack.write(FEISHU)
    claim = stack.runtime.lanes.claim(stack.lane(event), 1)
    assert claim is not None
    keeper = ClaimKeeper(stack.runtime.lanes)
    now = time.monotonic()

    with keeper.holding(claim, 60):
        stack.client.hset(LaneKeys(claim.lane).state, "lease", "1")
        keeper.renew_all(now + 30)
        renewed = lease_ms(stack, claim)
        stack.client.hset(LaneKeys(claim.lane).state, "lease", "1")
        keeper.renew_all(now + 120)
        given_up = lease_ms(stack, claim)
    keeper.renew_all(now)

    assert renewed > stack.now_ms()
    assert given_up == 1
    assert lease_ms(stack, claim) == 1


def test_the_keeper_renews_by_itself_and_outlives_an_outage(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("workers.claim_keeper.RENEW_INTERVAL_S", 0.05)
    event = stack.write(FEISHU)
    claim = stack.runtime.lanes.claim(stack.lane(event), 1)
    assert claim is not None

    with ClaimKeeper(stack.runtime.lanes).holding(claim, 60):
        await_renewal(stack, claim)
        stack.client.rename(LaneKeys(claim.lane).state, "aside")
        stack.client.set(LaneKeys(claim.lane).state, "of the wrong type")  # every renewal fails
        await_message(caplog, "claims.renewal_failed")
        stack.client.rename("aside", LaneKeys(claim.lane).state)
        await_renewal(stack, claim)


def test_the_keeper_outlives_a_bug_of_its_own(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("workers.claim_keeper.RENEW_INTERVAL_S", 0.05)
    event = stack.write(FEISHU)
    claim = stack.runtime.lanes.claim(stack.lane(event), 1)
    assert claim is not None
    keeper = ClaimKeeper(stack.runtime.lanes)

    with keeper.holding(claim, 60):
        with monkeypatch.context() as patched:
            patched.setattr(stack.runtime.lanes, "renew", lambda _: {}[0])
            await_message(caplog, "claims.renewal_bug")
        await_renewal(stack, claim)


def test_a_keeper_without_a_thread_starts_one_with_the_next_claim(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.claim_keeper.RENEW_INTERVAL_S", 0.05)
    event = stack.write(FEISHU)
    claim = stack.runtime.lanes.claim(stack.lane(event), 1)
    assert claim is not None
    keeper = ClaimKeeper(stack.runtime.lanes)
    with monkeypatch.context() as patched:
        patched.setattr("threading.Thread.start", no_thread)
        with pytest.raises(RuntimeError), keeper.holding(claim, 60):
            pass

    with keeper.holding(claim, 60):
        await_renewal(stack, claim)


def no_thread(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def await_message(caplog: pytest.LogCaptureFixture, message: str) -> None:
    deadline = time.monotonic() + 10
    while message not in caplog.messages:
        assert time.monotonic() < deadline, f"{message} was not logged"
        time.sleep(0.01)


def await_renewal(stack: Stack, claim: Claim) -> None:
    stack.client.hset(LaneKeys(claim.lane).state, "lease", "1")
    deadline = time.monotonic() + 10
    while lease_ms(stack, claim) == 1:
        assert time.monotonic() < deadline, "the claim was not renewed"
        time.sleep(0.01)


def test_renewing_a_claim_that_is_gone_brings_nothing_back(stack: Stack) -> None:
    event = stack.write(FEISHU)
    claim = stack.runtime.lanes.claim(stack.lane(event), 1)
    assert claim is not None
    keeper = ClaimKeeper(stack.runtime.lanes)
    stack.client.delete(LaneKeys(claim.lane).state)

    with keeper.holding(claim, 60):
        keeper.renew_all(time.monotonic())

    assert stack.state(stack.lane(event)) == {}


@pytest.mark.parametrize(("has_soft_limit", "age_s"), [(True, 0.5), (False, 2.5)])
def test_celerys_limits_stand_behind_the_last_head_that_a_task_goes_on_with(
    stack: Stack, has_soft_limit: bool, age_s: float
) -> None:
    runtime = Runtime(Live(stack.settings), OWNER, 2, Metrics(), has_soft_limit=has_soft_limit)
    limits = time_limits(stack.settings)
    timeouts = {PROCESS: stack.settings.answer_timeout_s, PUSH: stack.settings.task_timeout_s}

    for stage in (runtime.process, runtime.push):
        assert not stage.may_go_on(age_s)
        last_end_s = age_s + timeouts[stage.name]
        if has_soft_limit:
            assert limits[stage.name]["soft_time_limit"] >= last_end_s + 1
        assert limits[stage.name]["time_limit"] >= last_end_s + 3


@pytest.mark.parametrize(("has_soft_limit", "age_s"), [(True, 0.5), (False, 2.5)])
def test_young_task_of_a_worker_that_stays_may_go_on(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, has_soft_limit: bool, age_s: float
) -> None:
    runtime = Runtime(Live(stack.settings), OWNER, 2, Metrics(), has_soft_limit=has_soft_limit)
    for stage in (runtime.process, runtime.push):
        assert stage.may_go_on(age_s - 0.1)
        assert not stage.may_go_on(age_s)
    monkeypatch.setattr("celery.worker.state.should_stop", 0)
    assert not runtime.process.may_go_on(0.0)


@pytest.mark.parametrize("platform", [DINGTALK, FEISHU])
@pytest.mark.parametrize(
    ("text", "words"),
    [("你好", "你今天的提问次数已达上限"), ("hello", "reached the limit of questions for today")],
    ids=["zh", "en"],
)
def test_who_is_over_a_quota_is_told_and_the_model_is_not_asked(
    text: str, words: str, platform: str, make_stack: Callable[..., Stack]
) -> None:
    stack = make_stack(QUOTAS__USER__REQUESTS_PER_DAY="1")
    first = stack.answer(platform, text="one")
    stack.push(first)
    history = stack.client.lrange(LaneKeys(stack.lane(first)).history, 0, -1)

    refused = stack.answer(platform, text=text)
    stack.push(refused)

    assert words in stack.sends()[-1].text
    assert stack.model_calls() == 1
    assert stack.counts(refused) == {"accepted": 2, "answered": 1, "rejected": 1}
    assert stack.client.lrange(LaneKeys(stack.lane(first)).history, 0, -1) == history
    assert stack.client.zcard(keys.DUE) == 0


def test_what_an_answer_used_counts_against_the_next_question(
    make_stack: Callable[..., Stack],
) -> None:
    stack = make_stack(QUOTAS__USER__TOKENS_PER_DAY="60")
    stack.push(stack.answer(FEISHU, text="a question"))  # its answer has more than 60 characters

    refused = stack.answer(FEISHU, text="another")
    stack.push(refused)

    assert "the limit of text for today" in stack.sends()[-1].text
    assert stack.counts(refused)["rejected"] == 1


def test_an_exempt_person_is_always_answered(make_stack: Callable[..., Stack]) -> None:
    sender = make_stack().write(FEISHU).sender_id
    stack = make_stack(
        QUOTAS__BOT__REQUESTS_PER_DAY="1", QUOTAS__EXEMPT=json.dumps(["nobody", sender])
    )

    events = [stack.answer(FEISHU, conversation=f"c{n}") for n in range(3)]

    assert all("fate" not in stack.record(event) for event in events)


def test_a_notice_of_a_quota_that_can_not_be_delivered_is_no_dead_letter(
    make_stack: Callable[..., Stack],
) -> None:
    stack = make_stack(QUOTAS__USER__REQUESTS_PER_DAY="1")
    stack.push(stack.answer(FEISHU))
    stack.fault("feishu.reply", "errcode", code=230002)
    refused = stack.answer(FEISHU)

    stack.push(refused)

    assert stack.counts(refused) == {"accepted": 2, "answered": 1, "rejected": 1}
    assert not stack.client.exists(stack.outbox(refused))


def test_use_is_counted_also_where_there_is_no_quota(stack: Stack) -> None:
    text = "how are you?"
    event = stack.answer(FEISHU, text=text, group=True)

    (key,) = stack.client.keys(LaneKeys(stack.lane(event)).bot.usage(0)[:-1] + "*")
    used = stack.client.hgetall(key)
    answer = json.loads(stack.record(event)["reply"])["parts"][0]
    sums = f"1 3 {len(answer)}"  # the simulator's model counts its answer, by characters, alone
    assert (
        used
        | {
            f"user:{event.sender_id}": sums,
            f"group:{event.conversation_id}": sums,
            f"tenant:{event.tenant_id}": sums,
        }
        == used
    )
    assert "quota" not in stack.record(event)
