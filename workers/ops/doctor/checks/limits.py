"""Celery's time limits and pools, as the workers have them, against these settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from shared.config import Settings
from workers.limits import time_limits
from workers.ops.doctor.finding import Finding, failed, ok, skipped, warning
from workers.ops.doctor.roll import Worker, call_roll
from workers.ops.doctor.subject import Subject

ONE_AT_A_TIME = "solo"
#: Which of Celery's limits a pool has. They stand behind the deadlines that tasks keep themselves.
BEHIND: Mapping[str, tuple[str, ...]] = {
    "prefork": ("soft_time_limit", "time_limit"),
    "gevent": ("time_limit",),
    "thread": (),
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
    return ok(f"{worker.name}, {worker.pool}: {_shown(worker, wanted)}")


def _shown(worker: Worker, wanted: Mapping[str, Mapping[str, float]]) -> str:
    limits = BEHIND.get(worker.pool, ())
    if not limits:
        return "this pool has no limits; every task keeps its own deadline"
    tasks = [task for task in worker.queues if task in wanted]
    told = [f"{task} {' and '.join(f'{wanted[task][n]:g}' for n in limits)} s" for task in tasks]
    return f"Celery ends what runs past its deadline: {', '.join(told)}"
