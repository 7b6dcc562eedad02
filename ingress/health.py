"""GET /health, /ready and /metrics."""

from __future__ import annotations

from typing import Any

import redis.asyncio
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST
from redis.exceptions import RedisError

from ingress.bots import IngressBot
from ingress.live_workers import live_workers
from ingress.memory import MemoryWatch
from ingress.patience import within
from ingress.scrape import Scrape
from shared.state import keys
from shared.state.census import FATES

PROBE_TIMEOUT_S = 1.5


class Health:
    """The probes of one ingress process."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        bots: list[IngressBot],
        scrape: Scrape,
        memory: MemoryWatch,
        queue_capacity: int,
    ) -> None:
        self._client = client
        self._bots = bots
        self._scrape = scrape
        self._memory = memory
        self._queue_capacity = queue_capacity

    async def health(self, _: web.Request) -> web.Response:
        """The process lives. Never touches Redis."""
        return web.json_response({"status": "ok"})

    async def ready(self, request: web.Request) -> web.Response:
        """200 when Redis can record and capacity remains; `?deep=1` also wants live workers."""
        try:
            reasons, workers = await within(PROBE_TIMEOUT_S, self._probe())
        except (RedisError, OSError, TimeoutError) as error:
            down = {"status": "unavailable", "reasons": [f"redis: {type(error).__name__}"]}
            return web.json_response(down, status=503, headers={"Retry-After": "1"})
        if request.query.get("deep") == "1":
            reasons += [f"no live worker for queue {q}" for q, seen in workers.items() if not seen]
        body: dict[str, Any] = {
            "status": "unavailable" if reasons else "ready",
            "reasons": reasons,
            "workers": workers,
        }
        return web.json_response(body, status=503 if reasons else 200)

    async def metrics(self, _: web.Request) -> web.Response:
        """Prometheus text. Without Redis the lanes are missing, the rest is there."""
        text = await self._scrape.text()
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _probe(self) -> tuple[list[str], dict[str, list[str]]]:
        reasons = []
        await self._client.set(keys.PROBE, 1, px=1000)  # it must be able to write
        if self._memory.is_full:
            reasons.append("redis: memory above 80 % of maxmemory")
        for bot in self._bots:
            counts = await self._client.hgetall(bot.keys.counts)
            finished = sum(int(counts.get(fate, 0)) for fate in FATES)
            if int(counts.get("accepted", 0)) - finished >= self._queue_capacity:
                reasons.append(f"bot {bot.platform}/{bot.name}: queue_capacity is used up")
        return reasons, await live_workers(self._client)
