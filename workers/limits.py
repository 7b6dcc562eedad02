"""Celery's time limits: they stand behind the deadlines that tasks keep themselves."""

from __future__ import annotations

from shared.config import Settings
from shared.envelope import PROCESS, PUSH

SOFT_MARGIN_S = 1
HARD_MARGIN_S = 3


def time_limits(settings: Settings) -> dict[str, dict[str, float]]:
    """`task_annotations`: each task's limits in s."""
    return {PROCESS: _behind(settings.answer_timeout_s), PUSH: _behind(settings.task_timeout_s)}


def _behind(timeout_s: float) -> dict[str, float]:
    return {"soft_time_limit": timeout_s + SOFT_MARGIN_S, "time_limit": timeout_s + HARD_MARGIN_S}
