"""Composition: what the worker that sweeps does besides, once in the deployment."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import redis

from shared.config import Settings
from shared.state.keys import BotKeys
from workers.audit.duty import ReportDuty
from workers.audit.report import Reporter
from workers.keys.duty import KeyDuty
from workers.keys.sources import ring_store
from workers.retention import Retention
from workers.store import Lanes
from workers.supervision import LeaderDuty


def leader_duties(settings: Settings, client: redis.Redis, lanes: Lanes) -> list[LeaderDuty]:
    """In the order in which they are done."""
    bots = [BotKeys(bot.platform, bot.app_id) for bot in settings.all_bots()]
    rings = [ring_store(settings, name, client) for name in settings.all_models()]
    letters = settings.dead_letters
    return [
        Retention(
            client,
            lanes,
            bots,
            letter_days=letters.retention_days,
            text_days=letters.text_days,
        ),
        KeyDuty(client, rings, warn_days=settings.keys.warn_days),
        ReportDuty(
            client,
            Reporter.of(settings, client),
            zone=ZoneInfo(settings.timezone),
            directory=settings.log.dir,
        ),
    ]
