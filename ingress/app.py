"""Composition root of the ingress: settings in, a web application out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from zoneinfo import ZoneInfo

import redis.asyncio
from aiohttp import web

from ingress.addresses import CALLER_OF
from ingress.bots import IngressBot, build_bots
from ingress.config_center import ConfigCenter
from ingress.door import DOOR, Door
from ingress.health import Health
from ingress.inbox import Inbox, Limits
from ingress.key_gauges import KeyGauges
from ingress.lane_gauges import LaneGauges
from ingress.memory import MemoryWatch
from ingress.memory_gauge import MemoryGauge
from ingress.metrics import METRICS, Meter, Metrics
from ingress.model_gauges import BreakerGauges
from ingress.outsiders import OUTSIDERS, Outsiders
from ingress.redis_client import connect
from ingress.refusals import Refusals
from ingress.scrape import Gauges, Scrape
from ingress.strays import Strays
from ingress.webhook import MAX_AT_ONCE, Webhook
from ingress.worker_gauges import WorkerGauges
from shared.config import Settings
from shared.config.follow import Follower
from shared.config.live import Live
from shared.config.settings import DEFAULT_BOT
from shared.envelope import hint_templates
from shared.platforms import PLATFORMS

MAX_BODY_BYTES = 1 << 20

logger = logging.getLogger(__name__)

Watch = Callable[[], Coroutine[None, None, None]]  #: runs until cancelled


def build_app(settings: Settings, follower: Follower | None = None) -> web.Application:
    """The routes of the gateway. Nothing is opened before the application starts.

    follower: holds `settings` and changes what is live in them; without one, nothing changes.
    """
    live = follower.live if follower else Live(settings)
    client = connect(settings)
    metrics = Metrics()
    memory = MemoryWatch(client)
    is_open = partial(_knows_all, follower)
    door = Door(lambda: live.settings.security, is_open=is_open)
    bots = build_bots(settings)
    limits = Limits(
        qps=lambda: live.settings.security.qps,
        queue_capacity=settings.async_processing.queue_capacity,
        wait_replicas=settings.redis.wait_replicas,
    )
    inbox = Inbox(client, hint_templates(), limits)
    refusals = Refusals(client, ZoneInfo(settings.timezone))
    scrape = _scrape(settings, client, metrics, memory, list(bots.values()))
    health = Health(
        client, list(bots.values()), scrape, memory, limits.queue_capacity, is_open=is_open
    )

    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app[DOOR], app[METRICS], app[CALLER_OF] = door, metrics, door.caller
    app[OUTSIDERS] = Outsiders(door, metrics, refusals)
    turns = asyncio.Semaphore(MAX_AT_ONCE)
    strays = {name: Strays(name, door, metrics, refusals) for name in PLATFORMS}
    for (platform, name), bot in bots.items():
        meter = Meter(metrics, platform, name)
        webhook = Webhook(
            bot, door, inbox, memory, meter, turns, refusals, log_content=settings.log.content
        )
        _add_routes(app.router, bot, webhook, strays[platform])
    for each in strays.values():
        each.add_bot(app.router)
    app.router.add_get("/health", health.health)
    app.router.add_get("/ready", health.ready)
    app.router.add_get("/metrics", health.metrics)
    watches = [memory.run, refusals.run]
    if follower:
        watches.append(ConfigCenter(follower, client).run)
    app.cleanup_ctx.append(_lifespan(client, watches, refusals))
    return app


def _knows_all(follower: Follower | None) -> bool:
    """Whether the configuration centre has been read: allow-lists may be there, and only there."""
    return follower is None or follower.is_whole


def _add_routes(
    router: web.UrlDispatcher, bot: IngressBot, webhook: Webhook, strays: Strays
) -> None:
    """Plain paths: they are found by one lookup, patterns are tried one after the other."""
    home = f"/{bot.platform}/webhook"
    for path in (f"{home}/{bot.name}", *([home] if bot.name == DEFAULT_BOT else [])):
        router.add_post(path, webhook.handle)
        strays.add_method(router, path)


def _scrape(
    settings: Settings,
    client: redis.asyncio.Redis,
    metrics: Metrics,
    memory: MemoryWatch,
    bots: list[IngressBot],
) -> Scrape:
    registry, models = metrics.registry, list(settings.all_models())
    gauges: list[Gauges] = [
        LaneGauges(registry, bots),
        WorkerGauges(registry),
        MemoryGauge(registry, memory),
        BreakerGauges(registry, models),
        KeyGauges(registry, models),
    ]
    return Scrape(client, registry, gauges)


def _lifespan(
    client: redis.asyncio.Redis, watches: list[Watch], refusals: Refusals
) -> Callable[[web.Application], AsyncIterator[None]]:
    async def run(_: web.Application) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(watch()) for watch in watches]
        yield
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await refusals.stop()
        await client.aclose()

    return run
