"""The workers as they tell of themselves in Redis, once a second."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import redis

from shared.state import keys

SEEN_S = 15.0  #: who has not been heard for this long is not there (as in `/ready?deep=1`)


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker. limits: Celery's, by task; empty for one of an earlier release.

    silent_s: since it last told of itself. idle_s: since it last claimed, renewed or settled
    anything; None: it never did.
    """

    name: str
    queues: tuple[str, ...]
    pool: str
    concurrency: int
    pid: int
    limits: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    silent_s: float = 0.0
    idle_s: float | None = None

    @property
    def is_alive(self) -> bool:
        return self.silent_s <= SEEN_S


def call_roll(client: redis.Redis) -> list[Worker]:
    """Every worker of the last hour, by name."""
    seconds, micros = client.time()
    now_ms = seconds * 1000 + micros // 1000
    active = client.hgetall(keys.ACTIVE)
    told = sorted(client.hgetall(keys.WORKERS).items())
    return [_worker(name, json.loads(facts), active.get(name), now_ms) for name, facts in told]


def _worker(name: str, facts: Mapping[str, Any], active: str | None, now_ms: int) -> Worker:
    return Worker(
        name=name,
        queues=tuple(facts["queues"]),
        pool=facts["pool"],
        concurrency=facts.get("concurrency", 0),
        pid=facts.get("pid", 0),
        limits=facts.get("limits", {}),
        silent_s=(now_ms - facts["seen_ms"]) / 1000,
        idle_s=None if active is None else (now_ms - int(active)) / 1000,
    )
