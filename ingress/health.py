"""GET /health, /ready and /metrics."""

from __future__ import annotations

import json
from typing import Any

import redis.asyncio
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from redis.exceptions import RedisError

from ingress.bots import IngressBot
from ingress.key_gauges import KeyGauges
from ingress.memory import MemoryWatch
from ingress.metrics import Metrics
from ingress.patience import within
from shared.envelope import QUEUES
from shared.state import keys
from shared.state.census import FATES, LANES_PER_CALL, Census
from shared.state.scripts import script

WORKER_SEEN_MS = 15_000  #: a worker tells of itself every second
PROBE_TIMEOUT_S = 1.5


class Health:
    """The probes of one ingress process."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        bots: list[IngressBot],
        metrics: Metrics,
        model_keys: KeyGauges,
        memory: MemoryWatch,
        queue_capacity: int,
    ) -> None:
        self._client = client
        self._bots = bots
        self._metrics = metrics
        self._model_keys = model_keys
        self._memory = memory
        self._queue_capacity = queue_capacity
        self._walk = client.register_script(script("walk"))

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
        try:
            await within(PROBE_TIMEOUT_S, self._measure())
        except (RedisError, OSError, TimeoutError):
            self._metrics.forget_lanes()
            self._model_keys.forget()
        text = generate_latest(self._metrics.registry)
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
        return reasons, await self._workers()

    async def _workers(self) -> dict[str, list[str]]:
        seconds, micros = await self._client.time()
        now_ms = seconds * 1000 + micros // 1000
        seen: dict[str, list[str]] = {queue: [] for queue in QUEUES}
        for name, text in (await self._client.hgetall(keys.WORKERS)).items():
            facts: dict[str, Any] = json.loads(text)
            if now_ms - facts["seen_ms"] <= WORKER_SEEN_MS:
                for queue in facts["queues"]:
                    seen.setdefault(queue, []).append(name)
        return seen

    async def _measure(self) -> None:
        names = [keys.DUE, *(bot.keys.counts for bot in self._bots)]
        censuses = [Census() for _ in self._bots]
        first, lanes = 0, await self._client.zcard(keys.DUE)
        while first <= lanes:
            answer = await self._walk(keys=names, args=[first, first + LANES_PER_CALL - 1])
            for census, walked, counters in zip(censuses, *answer, strict=True):
                census.add(walked, counters)
            first += LANES_PER_CALL
        for bot, census in zip(self._bots, censuses, strict=True):
            self._metrics.show_census(bot.keys.prefix, census)
        for queue in QUEUES:
            self._metrics.queue.labels(queue).set(await self._client.llen(queue))
        await self._model_keys.measure(self._client)
