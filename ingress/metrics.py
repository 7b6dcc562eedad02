"""The ingress's metrics, named in one place."""

from __future__ import annotations

from functools import lru_cache, partial

from aiohttp import web
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)

from shared.state.census import FATES, Census


class Metrics:
    """One registry per process. Labels come from closed sets only, never from ids."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "clawdbot_ingress_requests",
            "Webhook calls by what became of them.",
            ["platform", "bot", "outcome"],
            registry=self.registry,
        )
        self.old_secret = Counter(
            "clawdbot_ingress_old_secret",
            "Messages still proved by a secret that is no longer the current one.",
            ["platform", "bot"],
            registry=self.registry,
        )
        self.latency = Histogram(
            "clawdbot_ingress_ack_seconds",
            "From the first byte read to the answer.",
            ["platform"],
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.8, 1, 3),
            registry=self.registry,
        )
        self.events = Gauge(
            "clawdbot_events",
            "Accepted events by fate; accepted = the sum of all the others.",
            ["bot", "fate"],
            registry=self.registry,
        )
        self.imbalance = Gauge(
            "clawdbot_conservation_imbalance",
            "accepted - answered - rejected - cancelled - dead - dropped - in flight; 0 is right.",
            ["bot"],
            registry=self.registry,
        )
        self.lanes = Gauge(
            "clawdbot_lanes",
            "Lanes with unfinished work, by stage.",
            ["bot", "stage"],
            registry=self.registry,
        )
        self.queue = Gauge(
            "clawdbot_queue_hints",
            "Celery messages waiting, by queue.",
            ["queue"],
            registry=self.registry,
        )

    def show_census(self, bot: str, census: Census) -> None:
        """Set the gauges of one bot."""
        for fate in ("accepted", *FATES):
            self.events.labels(bot, fate).set(census.counts.get(fate, 0))
        self.events.labels(bot, "in_flight").set(census.in_flight)
        self.imbalance.labels(bot).set(census.imbalance)
        self.lanes.labels(bot, "process").set(census.inbox_lanes)
        self.lanes.labels(bot, "push").set(census.outbox_lanes)

    def forget_lanes(self) -> None:
        """Show nothing rather than something old."""
        for gauge in (self.events, self.imbalance, self.lanes, self.queue):
            gauge.clear()


#: Where the application keeps them.
METRICS: web.AppKey[Metrics] = web.AppKey("metrics", Metrics)


class Meter:
    """Counts the calls of one bot. Labels are looked up once: that is half of the 10 µs."""

    def __init__(self, metrics: Metrics, platform: str, bot: str) -> None:
        self._child = lru_cache(partial(metrics.requests.labels, platform, bot))
        self._latency = metrics.latency.labels(platform)
        self._old_secret = metrics.old_secret.labels(platform, bot)

    def count(self, outcome: str, seconds: float) -> None:
        """One call: what became of it, and how long it took."""
        self._child(outcome).inc()
        self._latency.observe(seconds)

    def count_old_secret(self) -> None:
        """A message was proved by a secret that is no longer the current one."""
        self._old_secret.inc()
