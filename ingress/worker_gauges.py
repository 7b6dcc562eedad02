"""The queues on /metrics: hints that wait, workers that live."""

from __future__ import annotations

import redis.asyncio
from prometheus_client import CollectorRegistry

from ingress.live_workers import live_workers
from shared import metrics
from shared.envelope import QUEUES
from shared.instruments import gauge


class WorkerGauges:
    """Our queues alone: a worker may take others of Celery's, too, of any name."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._hints = gauge(metrics.QUEUE_HINTS, registry)
        self._workers = gauge(metrics.LIVE_WORKERS, registry)

    async def measure(self, client: redis.asyncio.Redis) -> None:
        """See `Gauges`."""
        workers = await live_workers(client)
        for queue in QUEUES:
            self._hints.labels(queue).set(await client.llen(queue))
            self._workers.labels(queue).set(len(workers[queue]))

    def forget(self) -> None:
        """See `Gauges`."""
        self._hints.clear()
        self._workers.clear()
