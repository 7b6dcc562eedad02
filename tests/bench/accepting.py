"""(a) The ingress beside a bare aiohttp handler: rate, CPU per event, latency at 500 events/s."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from tests.bench.builds import Gateway
from tests.bench.cost import cpu_s
from tests.bench.load import Shot, shoot
from tests.bench.scale import Scale
from tests.bench.world import START_TIMEOUT_S, World, is_open, new_conversations
from tests.e2e.processes import wait_until
from tests.redis_server import free_port

RATE = 500
BARE = "bare aiohttp handler"


@dataclass(frozen=True, slots=True)
class Accepting:
    """One round: as fast as it goes, then at `RATE`."""

    full: Shot
    cpu_ms: float
    steady: Shot


def accepting(world: World, gateways: Sequence[Gateway], scale: Scale) -> list[dict[str, Any]]:
    """The rows of the table: the bare handler first. Workers are off; Redis records everything."""
    port = free_port()
    command = [sys.executable, "-m", "tests.bench.bare", "--port", str(port)]
    bare = world.process("bare", command, {})
    rounds: dict[str, list[Accepting]] = {BARE: [], **{g.name: [] for g in gateways}}
    try:
        bare.start()
        wait_until(lambda: is_open(port), START_TIMEOUT_S, "the bare handler listens")
        targets = [(BARE, port, bare.pid)]
        for gateway in gateways:
            gateway.start_ingress()
            targets.append((gateway.name, gateway.port, gateway.programs()["ingress"][0]))
        for _ in range(scale.rounds):
            for name, target, pid in targets:
                world.redis.flushall()
                rounds[name].append(_round(world, target, pid, scale))
    finally:
        bare.end()
        for gateway in gateways:
            gateway.stop()
    return [_row(name, done) for name, done in rounds.items()]


def _round(world: World, port: int, pid: int, scale: Scale) -> Accepting:
    conversations = new_conversations("a")
    requests = world.requests(conversations, scale.accepted)
    before = cpu_s([pid])
    full = shoot(port, requests).must_be_accepted()
    cpu_ms = (cpu_s([pid]) - before) * 1000 / len(requests)
    steady = world.requests(conversations, RATE * scale.steady_s)
    return Accepting(full, cpu_ms, shoot(port, steady, rate=RATE).must_be_accepted())


def _row(name: str, rounds: list[Accepting]) -> dict[str, Any]:
    return {
        "what": name,
        "events_per_s": median(done.full.rate for done in rounds),
        "cpu_ms": median(done.cpu_ms for done in rounds),
        f"p50_ms_at_{RATE}": median(done.steady.percentile_ms(50) for done in rounds),
        f"p99_ms_at_{RATE}": median(done.steady.percentile_ms(99) for done in rounds),
    }
