"""Where a day begins (`settings.timezone`)."""

from __future__ import annotations

from datetime import datetime, tzinfo
from functools import lru_cache

DAY_S = 86_400
STEP_S = 60  #: clocks are set at a whole minute of UTC


def utc_offset_s(zone: tzinfo, now_ms: int) -> int:
    """How far the zone's clocks are ahead of UTC at that time."""
    return _offset_s(zone, now_ms // 1000 // STEP_S)


@lru_cache(16)
def _offset_s(zone: tzinfo, step: int) -> int:
    offset = datetime.fromtimestamp(step * STEP_S, zone).utcoffset()
    return int(offset.total_seconds()) if offset else 0


def local_day(zone: tzinfo, now_ms: int) -> int:
    """The day of Unix time by the zone's clocks."""
    return (now_ms // 1000 + utc_offset_s(zone, now_ms)) // DAY_S
