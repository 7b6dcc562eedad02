"""The two Celery tasks. A hint carries a lane's name, a sequence number and a trace id, no more."""

from __future__ import annotations

from shared.envelope import PROCESS, PUSH
from workers.celery import app, worker_process


@app.task(name=PROCESS, max_retries=None)
def process(lane: str, seq: str, trace_id: str) -> None:
    """Answer the event at the head of an inbox lane. `trace_id` only helps a reader of Flower."""
    worker_process.runtime.process.run(lane, int(seq))


@app.task(name=PUSH, max_retries=None)
def push(lane: str, seq: str, trace_id: str) -> None:
    """Deliver the reply at the head of an outbox lane."""
    worker_process.runtime.push.run(lane, int(seq))
