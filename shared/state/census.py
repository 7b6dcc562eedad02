"""The conservation equation, from one walk over the lanes.

accepted = answered + rejected + cancelled + dead + dropped + in flight
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

FATES = ("answered", "rejected", "cancelled", "dead", "dropped")
LANES_PER_CALL = 5000  #: up to here the walk and the counters are one instant


@dataclass
class Census:
    """One bot's events. `counts` has the counters; the rest was counted by walking.

    calls: of the walk.
    oldest_…_ms: when the oldest event in such a lane was accepted; 0: there is none.
    """

    calls: int = 0
    inbox_lanes: int = 0
    outbox_lanes: int = 0
    to_process: int = 0
    to_push: int = 0
    notices: int = 0
    oldest_inbox_ms: int = 0
    oldest_outbox_ms: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def in_flight(self) -> int:
        """Unfinished events: those in an inbox and those whose reply is in an outbox."""
        return self.to_process + self.to_push

    @property
    def imbalance(self) -> int | None:
        """0 when every accepted event is accounted for; None after a walk of several calls.

        What moves between two of them is counted twice, or not at all.
        """
        if self.calls > 1:
            return None
        return (
            self.counts.get("accepted", 0)
            - self.in_flight
            - sum(self.counts.get(fate, 0) for fate in FATES)
        )

    def add(self, walked: Sequence[Any], counters: Sequence[str]) -> None:
        """Take in one answer of `walk.lua`; the counters of the last one stand."""
        self.calls += 1
        self.inbox_lanes += walked[1]
        self.outbox_lanes += walked[2]
        self.to_process += walked[3]
        self.to_push += walked[4]
        self.notices += walked[5]
        self.oldest_inbox_ms = _older(self.oldest_inbox_ms, walked[6])
        self.oldest_outbox_ms = _older(self.oldest_outbox_ms, walked[7])
        self.counts = {
            name: int(value) for name, value in zip(counters[::2], counters[1::2], strict=True)
        }


def _older(one_ms: int, other_ms: int) -> int:
    return min(one_ms, other_ms) if one_ms and other_ms else one_ms or other_ms
