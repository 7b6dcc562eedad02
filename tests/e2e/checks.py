"""What must be true after the blows, whatever they were: the promises as assertions."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from tests.e2e.kills import Crowd, Kill, cut_short, span_of
from tests.e2e.stack import Stack

#: Between a call as the simulator sees it and what the worker knows of it: on a busy machine a
#: request waits for the simulator, and an answer for its record.
LATE_S = 3.0
BUGS = ("supervision.bug", "claims.renewal_bug", "webhook.bug", "bug:")


@dataclass(frozen=True, slots=True)
class Record:
    """The simulator's ledger since a case began."""

    entries: list[dict[str, Any]]

    @property
    def shown(self) -> list[dict[str, Any]]:
        """What people saw, in order."""
        return [r for r in self.entries if r["kind"] == "send" and r["outcome"] == "visible"]

    @property
    def model_calls(self) -> list[dict[str, Any]]:
        """Without those that the model refused by a test's order: they are rightly repeated."""
        return [r for r in self.entries if r["kind"] == "model" and r["outcome"] != "status"]


def counters(stack: Stack) -> Counter[str]:
    """The bots' counters together."""
    total: Counter[str] = Counter()
    for key in stack.redis.scan_iter("*:counts"):
        total.update({name: int(n) for name, n in stack.redis.hgetall(key).items()})
    return total


def check_balance(stack: Stack, events: int, before: Counter[str]) -> None:
    """Everything accepted since `before` is answered; nothing is left anywhere."""
    facts = stack.census().values()
    assert {bot["imbalance"] for bot in facts} == {0}
    assert {bot["in_flight"] for bot in facts} == {0}
    after = counters(stack)
    assert after["accepted"] - before["accepted"] == events
    assert after["answered"] - before["answered"] == events
    assert stack.unfinished_lanes() == 0
    assert list(stack.redis.scan_iter("*:state")) == []


def check_answers(
    record: Record, crowd: Crowd, kills: list[Kill], slots: int, *, send_s: float, children: int = 0
) -> tuple[int, int]:
    """One answer each; DingTalk, which has no key against it, may show again what was cut short.

    kills: those that can cut a send, besides `children` that were killed with one send each.
    Returns DingTalk's repeats, and how many the sends running at the kills allow.
    """
    answers = Counter(send["message_id"] for send in record.shown)
    told = {chat: [answers.pop(name, 0) for name in crowd.accepted[chat]] for chat in crowd.chats}
    assert not answers, "answers to nothing that was accepted"
    assert all(set(counts) == {1} for chat, counts in told.items() if chat.startswith("oc_")), (
        "Feishu shows every answer once"
    )
    assert all(min(counts) >= 1 for counts in told.values()), "every message is answered"

    sends = [send for send in record.shown if send["platform"] == "dingtalk"]
    repeats = sum(sum(counts) - len(counts) for counts in told.values())
    allowed = cut_short(kills, sends, slots=slots, lasting_s=send_s) + children
    print(f"DingTalk repeats: {repeats} of {allowed} sends cut short")
    assert repeats <= allowed
    return repeats, allowed


def check_model(
    record: Record, events: int, kills: list[Kill], slots: int, *, children: int = 0
) -> tuple[int, int]:
    """A call is made again only when the one before was cut short.

    Returns the calls made again, and how many the kills can have cut.
    """
    calls = record.model_calls
    running = cut_short(kills, calls, slots=slots, slack_s=LATE_S) + children
    again = repeated(calls)
    print(f"model calls: {len(calls)} for {events} events, {running} ran at the kills")
    spans = [span_of(call) for call in again]
    untouched = [span for span in spans if not any(k.hits(*span, LATE_S) for k in kills)]
    assert len(untouched) <= children, f"{untouched} repeated, and no kill was near: {kills}"
    assert len(calls) - events <= len(again) <= running
    return len(again), running


def repeated(calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that were made once more, for the same words: all but the last for each."""
    last = {call["text"]: call for call in sorted(calls, key=lambda call: call["at"])}
    return [call for call in calls if call is not last[call["text"]]]


def check_order(record: Record, crowd: Crowd) -> None:
    """The first sight of every answer follows the order of acceptance."""
    for chat in crowd.chats:
        seen = [send["message_id"] for send in record.shown if send["conversation"] == chat]
        assert list(dict.fromkeys(seen)) == crowd.accepted[chat], chat


def check_logs(stack: Stack) -> None:
    """A kill is no bug of ours, and no reason to tell secrets."""
    log = stack.log_text()
    assert [word for word in BUGS if word in log] == []
    assert [secret for secret in stack.secrets() if secret in log] == []
