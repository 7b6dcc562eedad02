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
WORKERS = ("process", "push", "worker")  #: programs whose idle memory counts; ours, ours, obvious
MOST_SLOW = 2000  #: messages of a flow with the slow model
OBVIOUS_SLOTS = os.cpu_count() or 1  #: Celery's default: one process per core

Contestant = tuple[Build, Setup]


def contestants(builds: Sequence[Build], scale: Scale) -> list[Contestant]:
    """Each pool with one worker a stage; with two; with one and Flower. All with both models."""
    setups = [Setup(pool, slots) for pool, slots in scale.pools.items()]
    two = [Setup(pool, slots, workers=2) for pool, slots in scale.pools.items()]
    flower = [Setup(pool, slots, flower=True) for pool, slots in scale.pools.items()]
    return [(build, setup) for setup in (*setups, *two, *flower) for build in builds]


def versions(builds: Sequence[Build], scale: Scale) -> list[Contestant]:
    """For two versions of ours: each pool with one worker a stage, with both models."""
    setups = [Setup(pool, slots) for pool, slots in scale.pools.items()]
    return [(build, setup) for setup in setups for build in builds]


def obvious(world: World) -> Contestant:
    return Obvious(world), Setup("prefork", OBVIOUS_SLOTS)


def answering(world: World, chosen: Sequence[Contestant], scale: Scale) -> list[dict[str, Any]]:
    """One row per contestant and model; every round has every contestant once."""
    rounds: list[list[_Round]] = [[] for _ in chosen]
    for _ in range(scale.rounds):
        for done, contestant in zip(rounds, chosen, strict=True):
            done.append(_round(world, contestant, scale))
    return [
        row
        for (build, setup), done in zip(chosen, rounds, strict=True)
        for row in _rows(f"{build.name}, {setup}", done)
    ]


class _Round:
    """What one start of a contestant gave."""

    def __init__(self, idle: float, fast: Flow, slow: Flow) -> None:
        self.idle = idle
        self.fast = fast
        self.slow = slow


def _round(world: World, contestant: Contestant, scale: Scale) -> _Round:
    build, setup = contestant
    conversations = new_conversations("b")
    try:
        build.start(setup)
        warm_up(world, build)
        idle = max(idle_mib(build, name) for name in build.programs() if name in WORKERS)
        fast = measure(world, build, world.requests(conversations, scale.messages))
        slow = _slow(world, build, setup, scale, conversations)
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
    flows = {0.0: [done.fast for done in rounds], SLOW_S: [done.slow for done in rounds]}
    return [
        {"what": name, "model_s": model_s, **middle(done), "idle_worker_mib": idle}
        for model_s, done in flows.items()
    ]
