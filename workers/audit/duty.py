"""The week's report, written without anybody asking.

The sweeper's worker calls it, so it runs once in the deployment, and as long as one worker lives:
Celery's beat may be missing.
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from zoneinfo import ZoneInfo

import redis

from shared import audit
from shared.local_time import local_day
from shared.state import keys
from workers.audit.render import as_text
from workers.audit.report import Report, Reporter, first_day_of, week_of

INTERVAL_MS = 60_000

logger = logging.getLogger(__name__)


class ReportDuty:
    """In each new week (from Monday on) it reports on the one before.

    The line `audit.reported` has all figures; the text goes to the log folder of whichever host
    sweeps. A worker that dies in the middle is followed by one that does it again.
    """

    def __init__(
        self, client: redis.Redis, reporter: Reporter, *, zone: ZoneInfo, directory: Path | None
    ) -> None:
        self._client = client
        self._reporter = reporter
        self._zone = zone
        self._directory = directory
        self._next_ms = 0

    def tick(self, now_ms: int) -> None:
        """Look what week it is, at most once in `INTERVAL_MS`. now_ms: Redis's time."""
        if now_ms < self._next_ms:
            return
        self._next_ms = now_ms + INTERVAL_MS
        week = week_of(local_day(self._zone, now_ms))
        known = int(self._client.get(keys.AUDIT_WEEK) or 0)
        if known >= week:
            return  # above it: the clock of a server that took over is behind
        if known:  # a gateway's first week is reported when it is over
            first_day = first_day_of(week - 1)
            self._tell(self._reporter.report(first_day, first_day + 6, now_ms))
        self._client.set(keys.AUDIT_WEEK, week)

    def _tell(self, report: Report) -> None:
        facts = {name: value for name, value in asdict(report).items() if name != "latest"}
        audit.write(audit.ACTIONS, "audit.reported", **facts)
        if self._directory is None:
            return
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            file = self._directory / f"audit-{report.first_day}.txt"
            file.write_text(as_text(report), "utf-8")
        except OSError as error:  # the log line has it all the same
            metadata = {"error": error.strerror or type(error).__name__}
            logger.warning("audit.not_written", extra={"metadata": metadata})
