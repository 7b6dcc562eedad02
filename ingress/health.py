"""GET /health, /ready and /metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import redis.asyncio
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST
from redis.exceptions import RedisError

from ingress.bots import IngressBot
from ingress.live_workers import live_workers
from ingress.memory import MemoryWatch
from ingress.patience import within
from ingress.scrape import Scrape
from ingress.single_flight import SingleFlight
from shared.state import keys
from shared.state.census import FATES

PROBE_TIMEOUT_S = 1.5
UNKNOWN_CENTRE = "configuration centre: not read yet, or refused (clawdbot config check)"


class Probe(NamedTuple):
    """reasons: why nothing is taken in. full: bots that take nothing in. workers: by queue."""

    reasons: list[str]
    full: list[str]
    workers: dict[str, list[str]]


class Health:
    """The probes of one ingress process. Anybody may ask, as often as they like."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        bots: list[IngressBot],
        scrape: Scrape,
        memory: MemoryWatch,
        queue_capacity: int,
        *,
        is_open: Callable[[], bool] = lambda: True,
    ) -> None:
        """is_open: whether anybody is let in."""
        self._client = client
        self._bots = bots
        self._text = SingleFlight(scrape.text)
        self._probed = SingleFlight(self._probe_in_time)
        self._memory = memory
        self._queue_capacity = queue_capacity
        self._is_open = is_open

    async def health(self, _: web.Request) -> web.Response:
        """The process lives. Never touches Redis."""
        return web.json_response({"status": "ok"})

    async def ready(self, request: web.Request) -> web.Response:
        """200 when Redis can record and a bot has room; `?deep=1` also wants live workers."""
        try:
            probe = await self._probed.result()
        except (RedisError, OSError, TimeoutError) as error:
            down = {"status": "unavailable", "reasons": [f"redis: {type(error).__name__}"]}
            return web.json_response(down, status=503, headers={"Retry-After": "1"})
        reasons = [*probe.reasons]
        if request.query.get("deep") == "1":
            queues = probe.workers.items()
            reasons += [f"no live worker for queue {queue}" for queue, seen in queues if not seen]
        body: dict[str, Any] = {
            "status": "unavailable" if reasons else "ready",
            **probe._asdict(),
            "reasons": reasons,
        }
        return web.json_response(body, status=503 if reasons else 200)

    async def metrics(self, _: web.Request) -> web.Response:
        """Prometheus text. Without Redis the lanes are missing, the rest is there."""
        text = await self._text.result()
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _probe_in_time(self) -> Probe:
        return await within(PROBE_TIMEOUT_S, self._probe())

    async def _probe(self) -> Probe:
        reasons, full = [], []
        await self._client.set(keys.PROBE, 1, px=1000)  # it must be able to write
        if not self._is_open():
            reasons.append(UNKNOWN_CENTRE)
        if self._memory.is_full:
            reasons.append("redis: memory above 80 % of maxmemory")
        for bot in self._bots:
            counts = await self._client.hgetall(bot.keys.counts)
            finished = sum(int(counts.get(fate, 0)) for fate in FATES)
            if int(counts.get("accepted", 0)) - finished >= self._queue_capacity:
                full.append(f"{bot.platform}/{bot.name}")
        if len(full) == len(self._bots):  # one alone must not take the others' way in away
            reasons += [f"bot {name}: queue_capacity is used up" for name in full]
        return Probe(reasons, full, await live_workers(self._client))
