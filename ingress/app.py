"""Composition root of the ingress: settings in, a web application out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable

import redis.asyncio
from aiohttp import web

from ingress.bots import IngressBot, build_bots
from ingress.health import Health
from ingress.inbox import Inbox, Limits
from ingress.key_gauges import KeyGauges
from ingress.lane_gauges import LaneGauges
from ingress.memory import MemoryWatch
from ingress.metrics import Meter, Metrics
from ingress.model_gauges import BreakerGauges
from ingress.redis_client import connect
from ingress.scrape import Gauges, Scrape
from ingress.webhook import MAX_AT_ONCE, Webhook
from ingress.worker_gauges import WorkerGauges
from shared.config import Settings
from shared.config.settings import DEFAULT_BOT
from shared.envelope import hint_templates

MAX_BODY_BYTES = 1 << 20

logger = logging.getLogger(__name__)


def build_app(settings: Settings) -> web.Application:
    """The routes of the gateway. Nothing is opened before the application starts."""
    client = connect(settings)
    metrics = Metrics()
    memory = MemoryWatch(client)
    bots = build_bots(settings)
    limits = Limits(
        qps=settings.security.qps,
        queue_capacity=settings.async_processing.queue_capacity,
        wait_replicas=settings.redis.wait_replicas,
    )
    inbox = Inbox(client, hint_templates(), limits)
    scrape = _scrape(settings, client, metrics, list(bots.values()))
    health = Health(client, list(bots.values()), scrape, memory, limits.queue_capacity)

    app = web.Application(client_max_size=MAX_BODY_BYTES)
    turns = asyncio.Semaphore(MAX_AT_ONCE)
    for (platform, name), bot in bots.items():
        meter = Meter(metrics, platform, name)
        webhook = Webhook(bot, inbox, memory, meter, turns, log_content=settings.log.content)
        # Plain paths are found by one lookup; patterns are tried one after the other.
        app.router.add_post(f"/{platform}/webhook/{name}", webhook.handle)
        if name == DEFAULT_BOT:
            app.router.add_post(f"/{platform}/webhook", webhook.handle)
    app.router.add_get("/health", health.health)
    app.router.add_get("/ready", health.ready)
    app.router.add_get("/metrics", health.metrics)
    app.cleanup_ctx.append(_lifespan(client, memory))
    return app


def _scrape(
    settings: Settings, client: redis.asyncio.Redis, metrics: Metrics, bots: list[IngressBot]
) -> Scrape:
    registry, models = metrics.registry, list(settings.all_models())
    gauges: list[Gauges] = [
        LaneGauges(registry, bots),
        WorkerGauges(registry),
        BreakerGauges(registry, models),
        KeyGauges(registry, models),
    ]
    return Scrape(client, registry, gauges)


def _lifespan(
    client: redis.asyncio.Redis, memory: MemoryWatch
) -> Callable[[web.Application], AsyncIterator[None]]:
    async def run(_: web.Application) -> AsyncIterator[None]:
        watch = asyncio.create_task(memory.run())
        yield
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watch
        await client.aclose()

    return run
