"""Where a day begins (`settings.timezone`)."""

from __future__ import annotations

from datetime import datetime, tzinfo

DAY_S = 86_400


def utc_offset_s(zone: tzinfo, now_ms: int) -> int:
    """How far the zone's clocks are ahead of UTC at that time."""
    offset = datetime.fromtimestamp(now_ms / 1000, zone).utcoffset()
    return int(offset.total_seconds()) if offset else 0


def local_day(zone: tzinfo, now_ms: int) -> int:
    """The day of Unix time by the zone's clocks."""
    return (now_ms // 1000 + utc_offset_s(zone, now_ms)) // DAY_S
