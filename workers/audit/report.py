"""What the audit trail says about some days: refusals, operators' actions, what lies ahead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import redis

from shared.config import Settings
from shared.state import keys
from shared.state.key_ring import DAY_MS
from shared.state.keys import BotKeys
from shared.state.refused import Refused
from workers.audit.stream import ActionStream, Kept
from workers.keys.ring_store import RingStore
from workers.keys.sources import ring_store

TOP_ADDRESSES = 10
LATEST_ACTIONS = 100
OTHERS = "(others)"  #: addresses that a busy day counts together

_EPOCH = date(1970, 1, 1)

Counts = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Report:
    """days: local ones, first and last included. Counts are exact but for a kill's last seconds.

    addresses: those that were refused most. latest: the newest actions, oldest first.
    keys: those whose end is past or near. dead_letters: by bot, as they stand now.
    """

    first_day: str
    last_day: str
    refused: int
    by_reason: Counts
    by_platform: Counts
    by_bot: Counts
    by_day: Counts
    addresses: Counts
    actions: Counts
    latest: Sequence[Mapping[str, Any]]
    keys: Sequence[Mapping[str, Any]]
    dead_letters: Counts


class Reporter:
    """Makes reports. zone: where a day begins. warn_days: what of a key's end is near."""

    def __init__(
        self,
        client: redis.Redis,
        bots: Sequence[BotKeys],
        rings: Sequence[RingStore],
        *,
        zone: ZoneInfo,
        warn_days: int,
    ) -> None:
        self._client = client
        self._bots = bots
        self._rings = rings
        self._zone = zone
        self._warn_ms = warn_days * DAY_MS
        self._actions = ActionStream(client)

    @classmethod
    def of(cls, settings: Settings, client: redis.Redis) -> Reporter:
        """For all bots and models of the settings."""
        return cls(
            client,
            [BotKeys(bot.platform, bot.app_id) for bot in settings.all_bots()],
            [ring_store(settings, name, client) for name in settings.all_models()],
            zone=ZoneInfo(settings.timezone),
            warn_days=settings.keys.warn_days,
        )

    def report(self, first_day: int, last_day: int, now_ms: int) -> Report:
        """The report of these days of Unix time. Raises: RedisError."""
        refused, by_day = self._refused(first_day, last_day)
        first_ms, end_ms = self._begin_ms(first_day), self._begin_ms(last_day + 1)
        actions: Counter[str] = Counter()
        latest: list[Kept] = []
        for kept in self._actions.between(first_ms, end_ms):
            actions[kept.action.name] += 1
            latest = [*latest[1 - LATEST_ACTIONS :], kept]
        return Report(
            first_day=_name_of(first_day),
            last_day=_name_of(last_day),
            refused=sum(by_day.values()),
            by_reason=_summed((kind.reason, n) for kind, n in refused.kinds.items()),
            by_platform=_summed((kind.platform, n) for kind, n in refused.kinds.items()),
            by_bot=_summed((f"{k.platform}/{k.bot}", n) for k, n in refused.kinds.items()),
            by_day=by_day,
            addresses=_top(refused.addresses),
            actions=dict(actions.most_common()),
            latest=[_row(kept) for kept in latest],
            keys=[row for ring in self._rings for row in self._ending(ring, now_ms)],
            dead_letters={bot.prefix: int(self._client.zcard(bot.dead)) for bot in self._bots},
        )

    def _refused(self, first_day: int, last_day: int) -> tuple[Refused, dict[str, int]]:
        refused, by_day = Refused(), {}
        for day in range(first_day, last_day + 1):
            fields = self._client.hgetall(f"{keys.REFUSED_PREFIX}{day}")
            by_day[_name_of(day)] = refused.add(fields)
        return refused, by_day

    def _begin_ms(self, day: int) -> int:
        """When the local day begins."""
        midnight = datetime.combine(_date_of(day), datetime.min.time(), self._zone)
        return int(midnight.timestamp() * 1000)

    def _ending(self, store: RingStore, now_ms: int) -> list[dict[str, Any]]:
        return [
            {
                "model": store.keys.model,
                "key": entry.id,
                "state": entry.state,
                "days": round((entry.ends_ms - now_ms) / DAY_MS, 1),
            }
            for entry in store.read().ring.live
            if entry.state != "replaced" and entry.ends_ms - now_ms <= self._warn_ms
        ]


def week_of(day: int) -> int:
    """Weeks of Unix time, from Monday to Sunday: 1970 began on a Thursday."""
    return (day + 3) // 7


def first_day_of(week: int) -> int:
    return week * 7 - 3


def _date_of(day: int) -> date:
    return _EPOCH + timedelta(days=day)


def _name_of(day: int) -> str:
    return _date_of(day).isoformat()


def _summed(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    sums: Counter[str] = Counter()
    for name, count in pairs:
        sums[name] += count
    return dict(sums.most_common())


def _top(addresses: Counter[str]) -> dict[str, int]:
    others = addresses.pop("", 0)
    top = dict(addresses.most_common(TOP_ADDRESSES))
    others += addresses.total() - sum(top.values())
    return {**top, OTHERS: others} if others else top


def _row(kept: Kept) -> dict[str, Any]:
    at = datetime.fromtimestamp(kept.ms / 1000, UTC).isoformat(timespec="seconds")
    action = kept.action
    return {
        "at": at,
        "user": action.user,
        "host": action.host,
        "action": action.name,
        "facts": dict(action.facts),
    }
