"""Celery's time limits: they stand behind the deadlines that tasks keep themselves.

Celery counts from a task's start, and a young task goes on with further heads: the limits stand
behind the deadline of the last head that it may take. They are the same on every pool, since the
settings are read before the pool is known: only prefork has the soft one, so that counts on the
short time of going on; the hard one, on the longest.
"""

from __future__ import annotations

from shared.config import Settings
from shared.envelope import PROCESS, PUSH

SOFT_MARGIN_S = 1
HARD_MARGIN_S = 3
#: A task takes no further head after this.
GO_ON_S = 0.5
#: Where there is no soft limit (`threads`, `gevent`). A slow model's tasks go on, too, then:
#: Celery's way from a hint to a task costs a third of a stage.
LONG_GO_ON_S = 2.5


def time_limits(settings: Settings) -> dict[str, dict[str, float]]:
    """`task_annotations`: each task's limits in s."""
    return {PROCESS: _behind(settings.answer_timeout_s), PUSH: _behind(settings.task_timeout_s)}


def _behind(timeout_s: float) -> dict[str, float]:
    return {
        "soft_time_limit": GO_ON_S + timeout_s + SOFT_MARGIN_S,
        "time_limit": LONG_GO_ON_S + timeout_s + HARD_MARGIN_S,
    }
