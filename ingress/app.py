"""Composition root of the ingress: settings in, a web application out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable

import redis.asyncio
from aiohttp import web

from ingress.addresses import CALLER_OF
from ingress.bots import build_bots
from ingress.door import DOOR, Door
from ingress.health import Health
from ingress.inbox import Inbox, Limits
from ingress.key_gauges import KeyGauges
from ingress.memory import MemoryWatch
from ingress.metrics import METRICS, Meter, Metrics
from ingress.redis_client import connect
from ingress.webhook import MAX_AT_ONCE, Webhook
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
    door = Door(settings.security)
    bots = build_bots(settings)
    limits = Limits(
        qps=settings.security.qps,
        queue_capacity=settings.async_processing.queue_capacity,
        wait_replicas=settings.redis.wait_replicas,
    )
    inbox = Inbox(client, hint_templates(), limits)
    model_keys = KeyGauges(metrics.registry, list(settings.all_models()))
    health = Health(client, list(bots.values()), metrics, model_keys, memory, limits.queue_capacity)

    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app[DOOR], app[METRICS], app[CALLER_OF] = door, metrics, door.caller
    turns = asyncio.Semaphore(MAX_AT_ONCE)
    for (platform, name), bot in bots.items():
        meter = Meter(metrics, platform, name)
        webhook = Webhook(bot, door, inbox, memory, meter, turns, log_content=settings.log.content)
        # Plain paths are found by one lookup; patterns are tried one after the other.
        app.router.add_post(f"/{platform}/webhook/{name}", webhook.handle)
        if name == DEFAULT_BOT:
            app.router.add_post(f"/{platform}/webhook", webhook.handle)
    app.router.add_get("/health", health.health)
    app.router.add_get("/ready", health.ready)
    app.router.add_get("/metrics", health.metrics)
    app.cleanup_ctx.append(_lifespan(client, memory))
    return app


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
