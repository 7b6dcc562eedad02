"""What the ingress counts itself; the names are in `shared/metrics.py`."""

from __future__ import annotations

from functools import lru_cache, partial

from aiohttp import web
from prometheus_client import CollectorRegistry, disable_created_metrics

from shared import metrics
from shared.instruments import counter, histogram
from shared.resources import Resources

#: What became of a message that was proved to be the platform's, and was for us. Shown from the
#: start: an alert can't see a series grow whose first value is not 0.
_OF_MESSAGES = frozenset(
    {
        *("accepted", "duplicate", "rate_limited"),
        *("unavailable", "redis_full", "queue_full", "conversation_full"),
    }
)


class Metrics:
    """One registry per process. Labels come from closed sets only, never from ids."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.requests = counter(metrics.INGRESS_REQUESTS, self.registry)
        self.old_secret = counter(metrics.INGRESS_OLD_SECRET, self.registry)
        self.latency = histogram(metrics.INGRESS_ACK, self.registry)
        self.registry.register(Resources())


#: Where the application keeps them.
METRICS: web.AppKey[Metrics] = web.AppKey("metrics", Metrics)


class Meter:
    """Counts the calls of one bot. Labels are looked up once: that is half of the 10 µs."""

    def __init__(self, metrics: Metrics, platform: str, bot: str) -> None:
        self._child = lru_cache(partial(metrics.requests.labels, platform, bot))
        self._latency = metrics.latency.labels(platform)
        self._old_secret = metrics.old_secret.labels(platform, bot)
        for outcome in (*_OF_MESSAGES, "address_limited", "not_ready"):
            self._child(outcome)

    def count(self, outcome: str, seconds: float) -> None:
        """One call: what became of it, and how long it took.

        The time of messages alone is kept: a stranger's slow body would be a slow answer, and a
        flood of quick refusals, or of what is ignored without asking Redis, would hide slow ones.
        """
        self._child(outcome).inc()
        if outcome in _OF_MESSAGES:
            self._latency.observe(seconds)

    def count_old_secret(self) -> None:
        """A message was proved by a secret that is no longer the current one."""
        self._old_secret.inc()
