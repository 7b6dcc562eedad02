"""Celery's time limits and pools, as the workers have them, against these settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from shared.config import Settings
from workers.limits import time_limits
from workers.ops.doctor.finding import Finding, failed, ok, skipped, warning
from workers.ops.doctor.roll import Worker, call_roll
from workers.ops.doctor.subject import Subject

ONE_AT_A_TIME = "solo"
#: What stands behind the deadlines that every task keeps itself.
BEHIND: Mapping[str, str] = {
    "prefork": "Celery's soft and hard limits stand behind the tasks' own deadlines",
    "gevent": "Celery's hard limit stands behind the tasks' own deadlines",
    "thread": "the tasks' own deadlines alone: this pool knows no limits",
}


def look(subject: Subject) -> Iterator[Finding]:
    """One finding for each live worker."""
    with subject.redis() as client:
        alive = [worker for worker in call_roll(client) if worker.is_alive]
    if not alive:
        yield skipped("no worker lives", "see the check workers")
    for worker in alive:
        yield _about(worker, subject.settings)


def _about(worker: Worker, settings: Settings) -> Finding:
    wanted = time_limits(settings)
    others = [
        f"{task} {limits['soft_time_limit']:g} and {limits['time_limit']:g} s"
        for task, limits in worker.limits.items()
        if task in worker.queues and limits != wanted.get(task)
    ]
    if others:
        return failed(
            f"{worker.name} was started with other limits: {', '.join(others)}",
            "It runs with other CLAWDBOT_TASK_TIMEOUT_S or CLAWDBOT_ANSWER_TIMEOUT_S than these.",
            "give it the same settings, and restart it",
        )
    if worker.pool == ONE_AT_A_TIME:
        return warning(
            f"{worker.name} has the pool solo",
            "It works on one message at a time, and is deaf to everything else meanwhile.",
            "start it with -P threads, gevent or prefork",
        )
    behind = BEHIND.get(worker.pool, "this pool was never tried")
    shown = ", ".join(f"{q} {wanted[q]['time_limit']:g} s" for q in worker.queues if q in wanted)
    return ok(f"{worker.name}: {shown}; {worker.pool}: {behind}")
