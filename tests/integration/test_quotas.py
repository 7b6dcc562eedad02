"""Quotas on a real Redis: exact across workers, each event counted once, windows that turn over."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence

import pytest

from shared.errors import ClaimLostError
from shared.messages import Event, Reply
from shared.state.keys import BotKeys
from tests.integration.lanes import BOT, USAGE, Bench, event, inbox, outbox
from workers.claim import Claim
from workers.store import Lanes

NOON_S = 43_200
DAY_S = 86_400
USER, GROUP = BOT.quota("user", "ou_1"), BOT.quota("group", "oc_1")
NOTICE = Reply(("enough",), kind="notice")
REPLY = Reply(("answer",))
USED = USAGE.prompt_tokens + USAGE.completion_tokens
THREADS, EVENTS, ADMITTED = 8, 160, 50


def limits(rpm: int = 0, rpd: int = 0, tpm: int = 0, tpd: int = 0) -> tuple[int, ...]:
    """Requests a minute, requests a day, tokens a minute, tokens a day."""
    return rpm, rpd, tpm, tpd


class Door:
    """Where events are let in. It is noon there: no day ends while a test runs."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self._numbers = itertools.count()
        now_s = bench.client.time()[0]
        self.offset_s = NOON_S - now_s % DAY_S
        self._minute_s = now_s - now_s % 60

    def admit(
        self, claim: Claim, *allowed: Sequence[int], tokens: int = 0, is_exempt: bool = False
    ) -> list[int]:
        """Of the person, and of the group if two are given."""
        return self.bench.lanes.admit(
            claim,
            dict(zip((USER, GROUP), allowed, strict=False)),
            tokens=tokens,
            offset_s=self.offset_s,
            is_exempt=is_exempt,
        )

    def admit_new(self, *allowed: Sequence[int], tokens: int = 0) -> list[int]:
        """An event in a conversation of its own."""
        return self.admit(self.new_claim(), *allowed, tokens=tokens)

    def new_claim(self) -> Claim:
        return self.bench.claim(self.accept())

    def accept(self, conversation: str = "", *, ago_s: int = 0) -> Event:
        first = event(conversation or f"oc_{next(self._numbers)}")
        self.bench.accept(first)
        if ago_s:
            accepted_ms = 1000 * (self._minute_s - ago_s)
            self.bench.client.hset(BOT.event(first.trace_id), "accepted", accepted_ms)
        return first

    def admit_old(self, ago_s: int, *allowed: Sequence[int], tokens: int = 0) -> list[int]:
        """An event that waited for so long, and for the part of this minute that is over."""
        claim = self.bench.claim(self.accept(ago_s=ago_s))
        return self.admit(claim, *allowed, tokens=tokens)

    def used(self, consumer: str = USER) -> dict[str, int]:
        """In the newest minute and the newest day."""
        windows = sorted(self.bench.client.hgetall(consumer).items())
        found = {window[0]: used.split() for window, used in windows}
        names = {"m": "minute", "d": "day"}
        return {
            f"{names[kind]}_{what}": int(n)
            for kind, used in found.items()
            for what, n in zip(("requests", "tokens"), used, strict=True)
        }

    def windows(self, consumer: str = USER) -> list[str]:
        return sorted(window[0] for window in self.bench.client.hkeys(consumer))

    def pass_a_minute(self) -> None:
        self.move("m", -1)

    def move(self, kind: str, by: int) -> None:
        """As if what was used in these minutes or days had been so in others."""
        used = self.bench.client.hgetall(USER)
        moved = {name: n for name, n in used.items() if name[0] == kind}
        if moved:
            self.bench.client.hdel(USER, *moved)
            later = {f"{kind}{int(name[1:]) + by}": n for name, n in moved.items()}
            self.bench.client.hset(USER, mapping=later)


@pytest.fixture
def door(bench: Bench) -> Door:
    return Door(bench)


def test_as_many_as_the_limit_says_are_let_in(door: Door) -> None:
    answers = [door.admit_new(limits(rpd=3)) for _ in range(5)]

    assert answers[:3] == [[], [], []]
    assert [answer[:2] for answer in answers[3:]] == [[1, 2], [1, 2]]
    assert door.used()["day_requests"] == 3


def test_a_refusal_says_when_it_is_free_again(door: Door) -> None:
    door.admit_new(limits(rpd=1))
    _, _, to_midnight_s = door.admit_new(limits(rpd=1))
    door.bench.client.flushall()
    door.admit_new(limits(rpm=1))
    answer = door.admit_new(limits(rpm=1)) or [1, 1, 1]  # the minute may just have ended

    assert NOON_S - 60 <= to_midnight_s <= NOON_S
    assert answer[:2] == [1, 1]
    assert 1 <= answer[2] <= 60


def test_of_several_limits_the_one_that_is_free_last_is_told(door: Door) -> None:
    door.admit_new(limits(rpm=1), limits(rpd=1))

    assert door.admit_new(limits(rpm=1), limits(rpd=1))[:2] == [2, 2]


def test_what_one_limit_refuses_is_counted_for_nobody(door: Door) -> None:
    door.admit_new(limits(rpd=9), limits(rpd=1))
    refused = door.admit_new(limits(rpd=9), limits(rpd=1))

    assert refused[:2] == [2, 2]
    assert door.used()["day_requests"] == 1


def test_a_new_day_begins_at_local_midnight(door: Door) -> None:
    door.admit_new(limits(rpd=1))
    assert door.admit_new(limits(rpd=1))

    door.offset_s += NOON_S + 60
    assert door.admit_new(limits(rpd=1)) == []
    assert door.admit_new(limits(rpd=1))
    assert door.used()["day_requests"] == 1


def test_a_new_minute_leaves_the_day_as_it_is(door: Door) -> None:
    door.admit_new(limits(rpm=1, rpd=2))
    door.pass_a_minute()

    assert door.admit_new(limits(rpm=1, rpd=2)) == []
    door.pass_a_minute()
    assert door.admit_new(limits(rpm=1, rpd=2))[:2] == [1, 2]


def test_a_clock_that_is_set_back_opens_no_used_up_window(door: Door) -> None:
    door.admit_new(limits(rpd=1))
    door.offset_s += DAY_S
    door.admit_new(limits(rpd=1))
    door.offset_s -= DAY_S

    assert door.admit_new(limits(rpd=1))[:2] == [1, 2]


@pytest.mark.parametrize(
    ("allowed", "least_s", "most_s"),
    [
        (limits(rpm=9), 3600, 3660),
        (limits(tpd=9), NOON_S + DAY_S, NOON_S + DAY_S + 3600),
    ],
    ids=["minutes", "days"],
)
def test_windows_expire_by_themselves(
    allowed: Sequence[int], least_s: int, most_s: int, door: Door
) -> None:
    door.admit_new(allowed)

    assert least_s <= door.bench.client.ttl(USER) <= most_s


# A backlog is judged by when people wrote


def test_who_wrote_within_the_limit_is_let_in_however_late_it_is_worked_on(door: Door) -> None:
    answers = [door.admit_old(60 * minutes, limits(rpm=6)) for minutes in range(8)]

    assert answers == [[]] * 8


def test_what_was_above_the_limit_when_it_was_written_is_refused(door: Door) -> None:
    answers = [door.admit_old(300, limits(rpm=2, tpm=100), tokens=10) for _ in range(3)]

    assert answers == [[], [], [1, 1, 0]], "free again: that minute has ended"
    assert door.admit_old(300, limits(tpm=100), tokens=90) == [1, 3, 0]
    assert door.admit_new(limits(rpm=1, tpm=100), tokens=90) == []


def test_the_backlog_of_yesterday_is_not_counted_today(door: Door) -> None:
    yesterday = [door.admit_old(DAY_S, limits(rpd=2, tpd=100), tokens=40) for _ in range(3)]
    today = [door.admit_new(limits(rpd=2, tpd=100), tokens=40) for _ in range(3)]

    assert yesterday == [[], [], [1, 2, 0]]
    assert [answer[:2] for answer in today] == [[], [], [1, 2]]


def test_windows_that_are_long_over_hold_nobody_and_are_forgotten(door: Door) -> None:
    allowed = limits(rpm=1, rpd=1, tpm=1, tpd=1)
    assert [door.admit_old(2 * DAY_S, allowed, tokens=9) for _ in range(2)] == [[], []]
    assert door.windows() == []

    door.admit_new(limits())
    door.move("m", -61)
    door.move("d", -2)
    door.admit_new(allowed)

    assert door.windows() == ["d", "m"]


def test_an_old_message_waits_in_the_account_of_its_day_alone(door: Door) -> None:
    assert door.admit_old(7200, limits(rpm=1, rpd=1)) == []
    assert door.windows() == ["d"]
    assert door.admit_old(7200, limits(rpm=1, rpd=1))[:2] == [1, 2]


def test_a_retry_counts_in_no_later_window(door: Door) -> None:
    first = door.accept(ago_s=120)
    for _ in range(2):
        claim = door.bench.claim(first)
        assert door.admit(claim, limits(rpm=1)) == []
        door.bench.lanes.retry(claim, 0, "model:503")

    assert door.admit_new(limits(rpm=1)) == []


def test_an_answer_corrects_the_windows_in_which_its_question_was_written(door: Door) -> None:
    claim = door.bench.claim(door.accept(ago_s=120))
    door.admit(claim, limits(tpm=1000), tokens=50)

    door.bench.write_back(claim)

    assert door.used() == {
        "day_requests": 1,
        "day_tokens": USED,
        "minute_requests": 1,
        "minute_tokens": USED,
    }


def test_an_exempt_consumer_is_counted_and_never_refused(door: Door) -> None:
    answers = [door.admit(door.new_claim(), limits(rpd=1), is_exempt=True) for _ in range(3)]

    assert answers == [[], [], []]
    assert door.used()["day_requests"] == 3


# An event counts once


def test_an_attempt_that_failed_is_not_counted_again(door: Door) -> None:
    first = door.accept()
    for _ in range(3):
        claim = door.bench.claim(first)
        assert door.admit(claim, limits(rpd=1)) == []
        door.bench.lanes.retry(claim, 0, "model:503")

    assert door.used()["day_requests"] == 1


def test_a_claim_that_is_lost_after_admission_counts_once(door: Door) -> None:
    first = door.accept()
    lost = door.bench.claim(first)
    door.admit(lost, limits(rpd=1))
    door.bench.expire_lease(inbox(first))
    held = door.bench.claim(first, door.bench.other_worker())

    assert door.admit(held, limits(rpd=1)) == []
    with pytest.raises(ClaimLostError):
        door.admit(lost, limits(rpd=1))
    assert door.used()["day_requests"] == 1


def test_a_redelivered_event_is_not_counted_again(door: Door) -> None:
    first = door.accept()
    door.admit(door.bench.claim(first), limits(rpd=9))

    assert door.bench.accept(first) == ["duplicate"]
    assert door.used()["day_requests"] == 1


def test_a_replayed_letter_is_let_in_and_not_counted_again(door: Door) -> None:
    first = door.accept()
    claim = door.bench.claim(first)
    door.admit(claim, limits(rpd=1))
    door.bench.lanes.bury(claim, "model:401", None)
    door.bench.lanes.replay(BOT, first.trace_id)

    assert door.admit(door.bench.claim(first), limits(rpd=1)) == []
    assert door.used()["day_requests"] == 1


def test_the_same_claim_gets_the_same_answer_whatever_happens_meanwhile(door: Door) -> None:
    door.admit_new(limits(rpd=1))
    refused, let_in = door.new_claim(), door.new_claim()
    told = door.admit(refused, limits(rpd=1))
    assert told
    assert door.admit(let_in, limits(rpd=2)) == []
    door.bench.client.delete(USER)

    assert door.admit(refused, limits(rpd=1)) == told
    assert door.admit(let_in, limits(rpd=2)) == []
    assert door.used() == {}


def test_a_refused_event_is_looked_at_anew_by_the_next_claim(door: Door) -> None:
    door.admit_new(limits(rpd=1))
    first = door.accept()
    assert door.admit(door.bench.claim(first), limits(rpd=1))
    door.bench.expire_lease(inbox(first))
    door.bench.client.delete(USER)

    assert door.admit(door.bench.claim(first, door.bench.other_worker()), limits(rpd=1)) == []


def test_workers_side_by_side_let_in_exactly_as_many_as_allowed(door: Door) -> None:
    claims = [door.new_claim() for _ in range(EVENTS)]
    answers: list[list[int]] = []
    ready = threading.Barrier(THREADS)

    def work(mine: list[Claim]) -> None:
        lanes = Lanes(door.bench.client, owner="w1@host/1", templates=door.bench.lanes._templates)
        ready.wait(10)
        for claim in mine:
            allowed = {USER: limits(rpd=ADMITTED), GROUP: limits(tpd=10 * ADMITTED)}
            answers.append(lanes.admit(claim, allowed, tokens=10, offset_s=door.offset_s))

    threads = [threading.Thread(target=work, args=(claims[n::THREADS],)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert len(answers) == EVENTS
    assert answers.count([]) == ADMITTED
    assert door.used()["day_requests"] == ADMITTED
    assert door.used(GROUP)["day_tokens"] == 10 * ADMITTED


# Tokens


def test_tokens_are_reserved_and_then_what_was_used(door: Door) -> None:
    claim = door.new_claim()
    door.admit(claim, limits(tpm=1000, tpd=1000), tokens=50)
    assert door.used()["day_tokens"] == 50

    for _ in range(2):
        door.bench.write_back(claim)

    assert door.used()["day_tokens"] == USED
    assert door.used()["minute_tokens"] in (USED, 50)  # 50: the minute has ended since


def test_what_is_reserved_counts_against_the_limit(door: Door) -> None:
    assert door.admit_new(limits(tpd=100), tokens=60) == []
    assert door.admit_new(limits(tpd=100), tokens=60)[:2] == [1, 4]
    assert door.admit_new(limits(tpd=100), tokens=40) == []
    assert door.used() | {"day_tokens": 100, "day_requests": 2} == door.used()


def test_a_question_above_the_whole_limit_is_let_in_while_nothing_was_used(door: Door) -> None:
    assert door.admit_new(limits(tpd=100), tokens=500) == []
    assert door.admit_new(limits(tpd=100), tokens=500)[:2] == [1, 4]


@pytest.mark.parametrize("window", ["minute", "day"])
def test_an_answer_counts_in_the_windows_of_its_admission_alone(window: str, door: Door) -> None:
    claim = door.bench.claim(door.accept(ago_s=DAY_S if window == "day" else 60))
    door.admit(claim, limits(tpm=1000, tpd=1000), tokens=50)
    door.admit_new(limits(tpm=1000, tpd=1000), tokens=60)

    door.bench.write_back(claim)

    assert door.used()[f"{window}_tokens"] == 60


def test_an_answer_after_its_windows_expired_leaves_no_key(door: Door) -> None:
    claim = door.new_claim()
    door.admit(claim, limits(tpm=1000), tokens=50)
    door.bench.client.delete(USER)

    door.bench.write_back(claim)

    assert not door.bench.client.exists(USER)


def test_a_message_that_dies_gives_its_tokens_back(door: Door) -> None:
    first = door.accept()
    claim = door.bench.claim(first)
    door.admit(claim, limits(tpd=1000), tokens=50)

    for _ in range(2):
        door.bench.lanes.bury(claim, "model:401", NOTICE)
    assert door.used()["day_tokens"] == 0

    door.bench.lanes.replay(BOT, first.trace_id)
    door.bench.processed(first)
    assert door.used() | {"day_tokens": USED, "day_requests": 1} == door.used()


def test_an_answer_that_can_not_be_delivered_was_used_all_the_same(door: Door) -> None:
    first = door.accept()
    claim = door.bench.claim(first)
    door.admit(claim, limits(tpd=1000), tokens=50)
    door.bench.write_back(claim)

    door.bench.lanes.bury(door.bench.claim_reply(first), "feishu:230002", NOTICE)

    assert door.used()["day_tokens"] == USED


def test_a_company_has_one_account_with_all_its_bots_of_a_platform() -> None:
    other = BotKeys(BOT.platform, "cli_other")

    assert BOT.quota("tenant", "t1") == other.quota("tenant", "t1")
    assert BOT.quota("user", "u1") != other.quota("user", "u1")


# What becomes of a refused event


def test_a_rejected_event_ends_when_its_notice_is_delivered(door: Door) -> None:
    first = door.accept()
    door.bench.lanes.reject(door.bench.claim(first), "quota", NOTICE)
    assert door.bench.counts() == {"accepted": 1}

    reply = door.bench.claim_reply(first)
    door.bench.lanes.settle(reply, next_part=1, parts=1)

    assert Reply.from_wire(reply.record["reply"]) == NOTICE
    assert door.bench.counts() == {"accepted": 1, "rejected": 1}
    assert door.bench.client.get(BOT.event(first.trace_id)).startswith("r11")
    assert not door.bench.client.exists(reply.keys.history)


def test_a_conversation_is_told_once_a_minute_and_its_lane_goes_on(door: Door) -> None:
    first, second, third = [door.accept("oc_busy") for _ in range(3)]
    for each in (first, second):
        door.bench.lanes.reject(door.bench.claim(each), "quota", NOTICE)

    assert door.bench.client.lrange(outbox(first), 0, -1) == [first.trace_id]
    assert door.bench.counts() == {"accepted": 3, "rejected": 1}
    assert door.bench.claim(third).event_id == third.trace_id


def test_a_notice_that_can_not_be_delivered_leaves_no_letter(door: Door) -> None:
    first = door.accept()
    door.bench.lanes.reject(door.bench.claim(first), "quota", NOTICE)
    reply = door.bench.claim_reply(first)

    for _ in range(2):
        door.bench.lanes.bury(reply, "feishu:230002", NOTICE)

    assert door.bench.counts() == {"accepted": 1, "rejected": 1}
    assert not door.bench.client.exists(BOT.dead, outbox(first))
    assert door.bench.lanes.replay(BOT, first.trace_id) == "not_dead"


def test_rejecting_with_a_lost_claim_changes_nothing(door: Door) -> None:
    first = door.accept()
    lost = door.bench.claim(first)
    door.bench.expire_lease(inbox(first))
    held = door.bench.claim(first, door.bench.other_worker())

    with pytest.raises(ClaimLostError):
        door.bench.lanes.reject(lost, "quota", NOTICE)

    door.bench.lanes.write_back(held, REPLY, [], usage=USAGE, keep=0, ttl_s=60)
    assert door.bench.counts() == {"accepted": 1}
