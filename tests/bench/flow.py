"""One measured flow of messages: from the first request to the last reply at the platform."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from tests.bench.builds import Build, settle
from tests.bench.cost import MemoryPeak, cpu_s, memory_mib
from tests.bench.load import shoot
from tests.bench.world import World

REDIS = "redis"


@dataclass(frozen=True, slots=True)
class Flow:
    """cpu_ms: per message, by program; Redis is one of them. peak_mib: all but Redis."""

    messages: int
    seconds: float
    cpu_ms: Mapping[str, float]
    peak_mib: float

    @property
    def rate(self) -> float:
        return self.messages / self.seconds

    @property
    def ours_ms(self) -> float:
        """CPU per message of everything but Redis."""
        return sum(ms for name, ms in self.cpu_ms.items() if name != REDIS)

    @property
    def redis_ms(self) -> float:
        return self.cpu_ms[REDIS]


class Meter:
    """The CPU that a build and its Redis take from now on."""

    def __init__(self, world: World, build: Build) -> None:
        self._groups = {**build.programs(), REDIS: [world.redis_pid]}
        self._before = self._read()

    def per_message_ms(self, messages: int) -> dict[str, float]:
        now = self._read()
        return {name: (now[name] - self._before[name]) * 1000 / messages for name in now}

    def _read(self) -> dict[str, float]:
        return {name: cpu_s(leaders) for name, leaders in self._groups.items()}


def measure(
    world: World, build: Build, requests: Sequence[bytes], *, connections: int = 32
) -> Flow:
    """Post everything as fast as it is taken while the workers work; wait for every reply."""
    messages, before = len(requests), world.replies()
    leaders = [pid for group in build.programs().values() for pid in group]
    meter = Meter(world, build)
    with MemoryPeak(leaders) as peak:
        shot = shoot(build.port, requests, connections=connections).must_be_accepted()
        world.replies(before + messages)
        seconds = time.monotonic() - shot.started
    settle(build)
    return Flow(messages, seconds, meter.per_message_ms(messages), peak.mib)


def idle_mib(build: Build, program: str) -> float:
    """The memory of one worker of that program, with what it forked."""
    leaders = build.programs()[program]
    return memory_mib(leaders) / len(leaders)


def middle(flows: Sequence[Flow]) -> dict[str, float]:
    """The medians of several flows of the same thing, ready for a report."""
    row = {
        "messages_per_s": median(flow.rate for flow in flows),
        "cpu_ms": median(flow.ours_ms for flow in flows),
        "redis_ms": median(flow.redis_ms for flow in flows),
        "peak_mib": median(flow.peak_mib for flow in flows),
    }
    programs = flows[0].cpu_ms.keys() - {REDIS}
    return row | {f"cpu_ms_{p}": median(flow.cpu_ms[p] for flow in flows) for p in sorted(programs)}
