"""(b), (c) From the webhook to the reply: messages/s, CPU per message, memory; all builds alike."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from tests.bench.builds import Build, Obvious, Setup, warm_up
from tests.bench.flow import Flow, idle_mib, measure, middle
from tests.bench.scale import Scale
from tests.bench.world import World, new_conversations

SLOW_S = 1.0
MOST_SLOW = 2000  #: messages of a flow with the slow model
OBVIOUS_SLOTS = os.cpu_count() or 1  #: Celery's default: one process per core

Contestant = tuple[Build, Setup, bool]  #: bool: with the slow model, too


def contestants(builds: Sequence[Build], scale: Scale) -> list[Contestant]:
    """Each pool with one worker a stage; with two; with Flower. The slow model without Flower."""
    setups = [Setup(pool, slots) for pool, slots in scale.pools.items()]
    two = [Setup(pool, slots, workers=2) for pool, slots in scale.pools.items()]
    flower = [Setup(pool, slots, flower=True) for pool, slots in scale.pools.items()]
    chosen = [(setup, True) for setup in (*setups, *two)] + [(setup, False) for setup in flower]
    return [(build, setup, slow) for setup, slow in chosen for build in builds]


def versions(builds: Sequence[Build], scale: Scale) -> list[Contestant]:
    """For two versions of ours: threads and gevent with the fast model."""
    setups = [Setup(pool, scale.pools[pool]) for pool in ("threads", "gevent")]
    return [(build, setup, False) for setup in setups for build in builds]


def obvious(world: World) -> Contestant:
    return Obvious(world), Setup("prefork", OBVIOUS_SLOTS), True


def answering(world: World, chosen: Sequence[Contestant], scale: Scale) -> list[dict[str, Any]]:
    """One row per contestant and model; every round has every contestant once."""
    rounds: list[list[_Round]] = [[] for _ in chosen]
    for _ in range(scale.rounds):
        for done, contestant in zip(rounds, chosen, strict=True):
            done.append(_round(world, contestant, scale))
    return [
        row
        for (build, setup, _), done in zip(chosen, rounds, strict=True)
        for row in _rows(f"{build.name}, {setup}", done)
    ]


class _Round:
    """What one start of a contestant gave."""

    def __init__(self, idle: float, fast: Flow, slow: Flow | None) -> None:
        self.idle = idle
        self.fast = fast
        self.slow = slow


def _round(world: World, contestant: Contestant, scale: Scale) -> _Round:
    build, setup, with_slow = contestant
    conversations = new_conversations("b")
    try:
        build.start(setup)
        warm_up(world, build)
        program = "process" if "process" in build.programs() else "worker"
        idle = idle_mib(build, program)
        fast = measure(world, build, world.requests(conversations, scale.messages))
        slow = _slow(world, build, setup, scale, conversations) if with_slow else None
    finally:
        build.stop()
    return _Round(idle, fast, slow)


def _slow(
    world: World, build: Build, setup: Setup, scale: Scale, conversations: Iterator[str]
) -> Flow:
    world.set_latency(SLOW_S)
    messages = setup.slots * setup.workers * scale.slow_waves
    try:
        return measure(world, build, world.requests(conversations, min(messages, MOST_SLOW)))
    finally:
        world.set_latency(0)


def _rows(name: str, rounds: list[_Round]) -> list[dict[str, Any]]:
    idle = median(done.idle for done in rounds)
    fast = [done.fast for done in rounds]
    slow = [done.slow for done in rounds if done.slow]
    rows = [{"what": name, "model_s": 0.0, **middle(fast), "idle_worker_mib": idle}]
    if slow:
        rows.append({"what": name, "model_s": SLOW_S, **middle(slow), "idle_worker_mib": idle})
    return rows
