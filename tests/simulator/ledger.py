"""The ledger: everything that was posted, answered and asked of the model, in order."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

#: What became of a send. `repeat`: the idempotency key was known, nothing new is seen;
#: `fault`: an ordered fault answered in the platform's place, nothing was done.
VISIBLE, REPEAT, REFUSED, FAULT = "visible", "repeat", "refused", "fault"

_MAX_NAMED = 20  #: how many unanswered ids the statistics name


@dataclass(slots=True)
class Posted:
    """One delivery of an event to the gateway. `status` 0: no HTTP answer (yet)."""

    platform: str
    conversation: str
    message_id: str
    text: str
    sender: str = ""
    event_id: str = ""
    group: bool = False
    status: int = 0
    ack_ms: float = 0.0
    reason: str = ""
    at: float = 0.0
    seq: int = 0
    kind: str = "event"


@dataclass(slots=True)
class Send:
    """One call of a platform's send API. `message_id`: the question it answers ("": unknown)."""

    platform: str
    route: str
    conversation: str
    text: str
    message_id: str = ""
    uuid: str = ""
    outcome: str = VISIBLE
    code: str = ""
    receipt: str = ""
    at: float = 0.0
    seq: int = 0
    kind: str = "send"


@dataclass(slots=True)
class ModelCall:
    """One call of a model. `outcome` is empty while it runs.

    name: `model` or `backup`. key: names the key that it came with. traceparent: its header.
    streamed: whether it asked for a stream.
    """

    text: str
    messages: int
    name: str = "model"
    key: str = ""
    traceparent: str = ""
    streamed: bool = False
    outcome: str = ""
    ended_at: float = 0.0
    at: float = 0.0
    seq: int = 0
    kind: str = "model"


Record = Posted | Send | ModelCall


def as_json(record: Record) -> dict[str, Any]:
    return asdict(record)


@dataclass(slots=True)
class Ledger:
    """Appending is O(1). Sequence numbers have no gaps and are never used twice."""

    clock: Callable[[], float] = time.time
    on_change: Callable[[Record], None] = lambda _: None
    _records: list[Record] = field(default_factory=list)
    _forgotten: int = 0
    _questions: dict[str, Posted] = field(default_factory=dict)
    _acknowledged: set[str] = field(default_factory=set)
    _by_conversation: dict[tuple[str, str], list[Posted]] = field(default_factory=dict)
    _answers: Counter[str] = field(default_factory=Counter)
    _seen: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    _unlinked: list[Send] = field(default_factory=list)
    _counts: Counter[str] = field(default_factory=Counter)
    _peak: int = 0

    def add_event(self, posted: Posted) -> None:
        self._append(posted)
        self._counts["deliveries"] += 1
        if self._questions.setdefault(posted.message_id, posted) is posted:
            chat = (posted.platform, posted.conversation)
            self._by_conversation.setdefault(chat, []).append(posted)
        if posted.status == 200:
            self._acknowledged.add(posted.message_id)
        self.on_change(posted)

    def acknowledge(self, posted: Posted, *, status: int, ack_ms: float, reason: str) -> None:
        """Fill in what the gateway answered."""
        posted.status, posted.ack_ms, posted.reason = status, ack_ms, reason
        if status == 200:
            self._acknowledged.add(posted.message_id)
        self.on_change(posted)

    def add_send(self, send: Send) -> None:
        self._append(send)
        self._counts[send.outcome] += 1
        if send.outcome == VISIBLE:
            self._count_duplicate(send)
        if send.message_id:
            self._count_answer(send)
        if not self._link(send):
            self._unlinked.append(send)
        self.on_change(send)

    def start_model_call(self, call: ModelCall) -> None:
        self._append(call)
        self._counts["model_calls"] += 1
        self._counts["model_in_flight"] += 1
        self._peak = max(self._peak, self._counts["model_in_flight"])

    def end_model_call(self, call: ModelCall, outcome: str) -> None:
        call.outcome, call.ended_at = outcome, self.clock()
        self._counts["model_in_flight"] -= 1

    def question_text(self, message_id: str) -> str:
        posted = self._questions.get(message_id)
        return posted.text if posted else ""

    def since(self, seq: int, conversation: str = "") -> list[Record]:
        """Records after number `seq`, of one conversation where one is named."""
        self._link_late()
        records = self._records[max(0, seq - self._forgotten) :]
        if not conversation:
            return records
        return [r for r in records if getattr(r, "conversation", None) == conversation]

    def stats(self, *, with_answers: bool = True) -> dict[str, Any]:
        self._link_late()
        waiting = [m for m in self._acknowledged if m not in self._answers]
        counts = self._counts
        stats = {
            "events": len(self._questions),
            "deliveries": counts["deliveries"],
            "acknowledged": len(self._acknowledged),
            "answered": len(self._answers),
            "unanswered": len(waiting),
            "unanswered_ids": sorted(waiting)[:_MAX_NAMED],
            "visible": counts[VISIBLE],
            "duplicates": counts["duplicates"],
            "repeats": counts[REPEAT],
            "refused": counts[REFUSED],
            "faults": counts[FAULT],
            "unlinked": sum(1 for send in self._unlinked if not send.message_id),
            "model_calls": counts["model_calls"],
            "model_in_flight": counts["model_in_flight"],
            "model_in_flight_peak": self._peak,
        }
        return stats | ({"answers": dict(self._answers)} if with_answers else {})

    def reset(self) -> None:
        """Forget everything but what is in flight; numbers go on."""
        running = self._counts["model_in_flight"]
        self._forgotten += len(self._records)
        for memory in (self._questions, self._acknowledged, self._by_conversation):
            memory.clear()
        for more in (self._records, self._answers, self._seen, self._unlinked, self._counts):
            more.clear()
        self._counts["model_in_flight"] = self._peak = running

    def _append(self, record: Record) -> None:
        self._records.append(record)
        record.seq = self._forgotten + len(self._records)
        record.at = record.at or self.clock()

    def _count_duplicate(self, send: Send) -> None:
        key = (send.platform, send.message_id or send.conversation, send.text)
        self._counts["duplicates"] += self._seen[key] > 0
        self._seen[key] += 1

    def _link(self, send: Send) -> bool:
        """Join a send to its question, by id or by the question's text inside the answer."""
        if not send.message_id:
            question = self._question_inside(send)
            if question:
                send.message_id = question.message_id
                self._count_answer(send)
        if not send.conversation and send.message_id in self._questions:
            send.conversation = self._questions[send.message_id].conversation
        return bool(send.message_id and send.conversation)

    def _count_answer(self, send: Send) -> None:
        if send.outcome == VISIBLE:
            self._answers[send.message_id] += 1

    def _question_inside(self, send: Send) -> Posted | None:
        asked: Iterable[Posted] = self._by_conversation.get((send.platform, send.conversation), ())
        inside = (posted for posted in asked if posted.text and posted.text in send.text)
        return max(inside, key=lambda posted: len(posted.text), default=None)

    def _link_late(self) -> None:
        """Clients report their events in batches: an answer may be known before its question."""
        self._unlinked = [send for send in self._unlinked if not self._link(send)]
