"""A bootstep of every worker's main process: heartbeat, sweeper, and the duties of who sweeps.

It needs no queue and no beat: while one worker of any stage lives, lost work is found again.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import redis
from celery import bootsteps
from celery.worker import state
from redis.exceptions import ConnectionError, ReadOnlyError, RedisError, TimeoutError

from shared import audit
from shared.process_tree import children
from shared.state import keys
from workers.audit.stream import ActionStream
from workers.store import Lanes
from workers.stuck_children import end_stuck_children

TICK_S = 1.0
SWEEPER_LEASE_MS = 5000
LANES_PER_CALL = 200  #: one script call stays around a millisecond
NOTICES_PER_CALL = 200
CALLS_PER_TICK = 10
FORGET_WORKER_MS = 3_600_000

logger = logging.getLogger(__name__)


class LeaderDuty(Protocol):
    """What is done once in the deployment: by the worker that sweeps."""

    def tick(self, now_ms: int) -> None:
        """A bounded step, each second. now_ms: Redis's time. Raises: RedisError."""


class Duties:
    """What one worker does every second besides its tasks. leader: what it does if it sweeps."""

    def __init__(
        self,
        client: redis.Redis,
        lanes: Lanes,
        *,
        worker: str,
        facts: Mapping[str, Any],
        leader: Sequence[LeaderDuty] = (),
    ) -> None:
        self._client = client
        self._lanes = lanes
        self._worker = worker
        self._facts = facts
        self._leader = leader

    def run(self, stop: threading.Event) -> None:
        """Tick until told to stop. An outage of Redis is waited out."""
        with audit.kept_by(ActionStream(self._client).keep):
            self._tick_until(stop)

    def _tick_until(self, stop: threading.Event) -> None:
        while not stop.wait(TICK_S):
            if state.should_stop is not None or state.should_terminate is not None:
                self.stop()
                return
            try:
                self.tick()
            except RedisError as error:
                logger.warning("supervision.failed", extra={"metadata": {"error": repr(error)}})
            except Exception:  # the thread must outlive any bug: without it nothing lost is found
                logger.exception("supervision.bug")

    def tick(self) -> None:
        """One bounded sweep, one heartbeat. The time is Redis's: a host's clock may be wrong.

        The heartbeat comes last: a Redis above its `maxmemory` refuses it, and must be swept.
        """
        seconds, micros = self._client.time()
        now_ms = seconds * 1000 + micros // 1000
        _outlive(self._lead, now_ms)
        seen = json.dumps({**self._facts, "seen_ms": now_ms})
        self._client.hset(keys.WORKERS, self._worker, seen)

    def stop(self) -> None:
        """The worker was told to stop: its claims that are lost from now on are no losses."""
        try:
            self._lanes.mark_stopping()
            self._client.hdel(keys.WORKERS, self._worker)
        except RedisError as error:
            logger.warning("supervision.failed", extra={"metadata": {"error": repr(error)}})

    def _lead(self, now_ms: int) -> None:
        if self._sweep():
            for duty in (self._tell_waiting, self._forget_workers, *(d.tick for d in self._leader)):
                _outlive(duty, now_ms)

    def _sweep(self) -> bool:
        for _ in range(CALLS_PER_TICK):
            swept = self._lanes.sweep(lease_ms=SWEEPER_LEASE_MS, limit=LANES_PER_CALL)
            if swept is None:
                return False
            looked_at, hinted = swept
            if hinted:
                logger.info("lanes.swept", extra={"metadata": {"hints": hinted}})
            if looked_at < LANES_PER_CALL:
                break
        return True

    def _tell_waiting(self, _now_ms: int) -> None:
        for _ in range(CALLS_PER_TICK):
            looked_at, queued = self._lanes.tell_waiting(limit=NOTICES_PER_CALL)
            if queued:
                logger.info("notices.queued", extra={"metadata": {"notices": queued}})
            if looked_at < NOTICES_PER_CALL:
                break

    def _forget_workers(self, now_ms: int) -> None:
        roll = self._client.hgetall(keys.WORKERS)
        for name, facts in roll.items():
            if now_ms - json.loads(facts)["seen_ms"] > FORGET_WORKER_MS:
                self._client.hdel(keys.WORKERS, name)
                self._client.hdel(keys.ACTIVE, name)
        for name, active_ms in self._client.hgetall(keys.ACTIVE).items():
            is_gone = name not in roll  # it was told to stop, and took itself off
            if is_gone and now_ms - int(active_ms) > FORGET_WORKER_MS:
                self._client.hdel(keys.ACTIVE, name)


def _outlive(duty: Callable[[int], None], now_ms: int) -> None:
    """Do it. What fails in it keeps neither the next duty nor the heartbeat from coming.

    Raises:
        ConnectionError, TimeoutError, ReadOnlyError: Redis is away; nothing else would work.
    """
    try:
        duty(now_ms)
    except (ConnectionError, TimeoutError, ReadOnlyError):
        raise
    except RedisError as error:
        metadata = {"duty": duty.__qualname__, "error": repr(error)}
        logger.error("duty.failed", extra={"metadata": metadata})
    except Exception:  # a bug of one duty's must not look like the worker's death
        logger.exception("supervision.bug", extra={"metadata": {"duty": duty.__qualname__}})


def supervision_step(make_duties: Callable[[Any], Duties]) -> type:
    """The bootstep; `make_duties` gets Celery's worker. It starts after the pool has forked."""

    class Supervision(bootsteps.StartStopStep):  # type: ignore[misc]
        requires = ("celery.worker.components:Pool",)

        def start(self, worker: Any) -> None:
            self._told_to_stop = threading.Event()
            self._duties = make_duties(worker)
            threading.Thread(
                target=self._duties.run, args=(self._told_to_stop,), name="duties", daemon=True
            ).start()

        def stop(self, worker: Any) -> None:
            """Threads and prefork call it before the pool waits for its tasks, gevent after."""
            self._told_to_stop.set()
            self._duties.stop()
            if pool_name(worker) == "prefork":
                threading.Thread(
                    target=end_stuck_children,
                    args=(partial(children, os.getpid()), lambda: bool(state.active_requests)),
                    name="stuck children",
                    daemon=True,
                ).start()

    return Supervision


def describe_worker(worker: Any) -> dict[str, Any]:
    """What `/ready`, `clawdbot doctor` and the liveness watcher want to know about a worker."""
    return {
        "queues": sorted(worker.app.amqp.queues.consume_from),
        "pool": pool_name(worker),
        "concurrency": worker.concurrency,
        "pid": os.getpid(),
        "limits": worker.app.conf.task_annotations,
    }


def pool_name(worker: Any) -> str:
    """The module of Celery's pool: `prefork`, `thread`, `gevent`, …"""
    return str(worker.pool_cls.__module__).rpartition(".")[2]
