"""The lanes on /metrics: events by fate, what is unfinished, how old the oldest is."""

from __future__ import annotations

from collections.abc import Sequence

import redis.asyncio
from prometheus_client import CollectorRegistry

from ingress.bots import IngressBot
from shared import metrics
from shared.envelope import PROCESS, PUSH
from shared.instruments import gauge
from shared.state import keys
from shared.state.census import FATES, LANES_PER_CALL, Census
from shared.state.scripts import script


class LaneGauges:
    """One walk over the lanes a scrape, `LANES_PER_CALL` of them in each call."""

    def __init__(self, registry: CollectorRegistry, bots: Sequence[IngressBot]) -> None:
        self._bots = bots
        self._events = gauge(metrics.EVENTS, registry)
        self._imbalance = gauge(metrics.IMBALANCE, registry)
        self._lanes = gauge(metrics.LANES, registry)
        self._lane_events = gauge(metrics.LANE_EVENTS, registry)
        self._oldest = gauge(metrics.OLDEST, registry)

    async def measure(self, client: redis.asyncio.Redis) -> None:
        """See `Gauges`."""
        walk = client.register_script(script("walk"))
        names = [keys.DUE, *(bot.keys.counts for bot in self._bots)]
        censuses = [Census() for _ in self._bots]
        first, lanes = 0, await client.zcard(keys.DUE)
        while first <= lanes:
            answer = await walk(keys=names, args=[first, first + LANES_PER_CALL - 1])
            for census, walked, counters in zip(censuses, *answer, strict=True):
                census.add(walked, counters)
            first += LANES_PER_CALL
        seconds, micros = await client.time()
        for bot, census in zip(self._bots, censuses, strict=True):
            self._show(bot, census, seconds * 1000 + micros // 1000)

    def forget(self) -> None:
        """See `Gauges`."""
        for each in (self._events, self._imbalance, self._lanes, self._lane_events, self._oldest):
            each.clear()

    def _show(self, bot: IngressBot, census: Census, now_ms: int) -> None:
        names = bot.platform, bot.name
        for fate in ("accepted", *FATES):
            self._events.labels(*names, fate).set(census.counts.get(fate, 0))
        self._events.labels(*names, "in_flight").set(census.in_flight)
        if census.imbalance is None:
            self._imbalance.clear()  # of all bots: they are walked together
        else:
            self._imbalance.labels(*names).set(census.imbalance)
        for stage, lanes, events, oldest_ms in (
            (PROCESS, census.inbox_lanes, census.to_process, census.oldest_inbox_ms),
            (PUSH, census.outbox_lanes, census.to_push, census.oldest_outbox_ms),
        ):
            self._lanes.labels(*names, stage).set(lanes)
            self._lane_events.labels(*names, stage).set(events)
            age_s = (now_ms - oldest_ms) / 1000 if oldest_ms else 0.0
            self._oldest.labels(*names, stage).set(max(0.0, age_s))
