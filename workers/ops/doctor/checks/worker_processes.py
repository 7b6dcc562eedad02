"""Which workers live, whether every stage has its own, and whether they do something."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from shared.envelope import QUEUES
from workers.ops.doctor.finding import Finding, failed, ok, warning
from workers.ops.doctor.roll import Worker, call_roll
from workers.ops.doctor.subject import Subject

STUCK_S = 30.0  #: as `make up`'s watcher: a busy worker renews its claims every 5 s


def look(subject: Subject) -> Iterator[Finding]:
    """One finding for each worker, and for each queue that has none."""
    with subject.redis() as client:
        workers = call_roll(client)
        waiting = {queue: int(client.llen(queue)) for queue in QUEUES}
    alive = [worker for worker in workers if worker.is_alive]
    for queue in QUEUES:
        if not any(queue in worker.queues for worker in alive):
            yield _nobody(queue, waiting[queue])
    for worker in workers:
        yield _about(worker, sum(waiting[queue] for queue in worker.queues if queue in waiting))
    yield from _shared(alive)


def _serves_both(worker: Worker) -> bool:
    return set(QUEUES) <= set(worker.queues)


def _nobody(queue: str, waiting: int) -> Finding:
    what = "Messages are acknowledged, and wait" if queue == QUEUES[0] else "Answers wait"
    return failed(
        f"no live worker for the queue {queue} (hints waiting: {waiting})",
        f"{what} until there is one; nothing is lost.",
        "start one, and let a supervisor keep it running",
        _start(queue),
    )


def _about(worker: Worker, waiting: int) -> Finding:
    queues = " and ".join(worker.queues)
    seen = f"{worker.name}: {queues}, {worker.pool}, {worker.concurrency} slots"
    if not worker.is_alive:
        return warning(
            f"{worker.name} was last heard of {worker.silent_s:.0f} s ago",
            "It was killed, or can't reach Redis; the others took its work over after 15 s.",
            "restart it; if it was removed on purpose, nothing: it is forgotten after an hour",
        )
    if waiting and (worker.idle_s is None or worker.idle_s > STUCK_S):
        return warning(
            f"{seen}; hints wait, and it has claimed nothing for {STUCK_S:.0f} s",
            "It lives and does not work: stuck, or without a connection to its queue.",
            "restart it on its host (its work is taken over), and keep its log",
            f"kill -TERM {worker.pid}",
        )
    return ok(seen)


def _shared(alive: Sequence[Worker]) -> Iterator[Finding]:
    """A warning, if a queue has live workers and each of them serves the other one, too."""
    apart = {queue for worker in alive if not _serves_both(worker) for queue in worker.queues}
    shared = [queue for queue in QUEUES if queue not in apart]
    both = ", ".join(worker.name for worker in alive if _serves_both(worker))
    if not both or not shared:
        return
    yield warning(
        f"every worker of {' and '.join(shared)} serves both stages: {both}",
        "A slow platform then holds up the model's calls, and the reverse.",
        f"start one worker for {'each stage' if len(shared) > 1 else shared[0] + ' alone'}",
        *(_start(queue) for queue in shared),
    )


def _start(queue: str) -> str:
    return f"celery -A workers worker -Q {queue} -P threads -c 64 -n {queue}@%h"
