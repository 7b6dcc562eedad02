"""How much is measured: enough for a figure, or just enough to see that it works."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """accepted: events a round in (a). messages: of a flow with the fast model.
    slow_waves: with the slow model, messages per slot. backlogs: lanes that wait.
    """

    rounds: int
    accepted: int
    steady_s: int
    messages: int
    slow_waves: int
    backlogs: tuple[int, ...]
    histories: tuple[int, ...]
    bots: tuple[int, ...]
    pools: Mapping[str, int]


#: Slots as README.md proposes them.
POOLS = {"prefork": 8, "threads": 64, "gevent": 500}

FULL = Scale(
    rounds=3,
    accepted=6000,
    steady_s=3,
    messages=1000,
    slow_waves=4,
    backlogs=(100, 1000, 10_000, 100_000),
    histories=(0, 10, 25, 50),
    bots=(1, 10, 100),
    pools=POOLS,
)
QUICK = Scale(
    rounds=1,
    accepted=1000,
    steady_s=1,
    messages=200,
    slow_waves=2,
    backlogs=(100, 1000),
    histories=(0, 50),
    bots=(1, 10),
    pools={"prefork": 2, "threads": 16, "gevent": 100},
)
