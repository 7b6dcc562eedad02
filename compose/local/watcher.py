"""Restarts a worker that lives but does nothing: `python -m compose.local.watcher`.

The supervisor sees a worker that ends; only Redis shows one that hangs: hints wait in its queue
while it neither claims, renews nor settles. A worker whose slots are all busy renews every 5 s.
"""

from __future__ import annotations

import logging
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import redis
from redis.exceptions import RedisError

from compose.local.problems import StackError
from compose.local.programs import WORKERS
from compose.local.state import StackState
from compose.local.supervisor import Supervisor
from shared import logs
from shared.config import settings_or_exit
from shared.state import keys
from workers.redis_client import connect

STUCK_S = 30.0  #: no sign of life for this long while hints wait
LOOK_EVERY_S = 1.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one look shows of a worker.

    waiting: hints in its queue.
    active: its last claim, renewal or settling as Redis has it, "" for none; only compared.
    """

    pid: int
    waiting: int
    active: str


@dataclass(frozen=True, slots=True)
class Progress:
    """The last time (monotonic s) there was progress, or nothing to do."""

    pid: int
    active: str
    since: float


def follow(before: Progress | None, sighting: Sighting, now: float) -> Progress:
    """What is known after another look. A start and an empty queue count as progress."""
    is_new = before is None or (before.pid, before.active) != (sighting.pid, sighting.active)
    if before is None or is_new or not sighting.waiting:
        return Progress(sighting.pid, sighting.active, now)
    return before


def is_stuck(progress: Progress, now: float) -> bool:
    return now - progress.since >= STUCK_S


class Watcher:
    """Looks at this stack's workers and has the stuck ones restarted."""

    def __init__(self, supervisor: Supervisor, client: redis.Redis, host: str) -> None:
        self._supervisor = supervisor
        self._client = client
        self._host = host
        self._progress: dict[str, Progress] = {}

    def look(self, now: float) -> list[str]:
        """One look at `now` (monotonic s). Returns the programs that were restarted.

        When Redis does not answer nobody can claim, and nobody is blamed for it.
        """
        try:
            sightings = self._sightings()
        except RedisError as error:
            logger.warning("watcher.blind", extra={"metadata": {"error": repr(error)}})
            self._progress.clear()
            return []
        self._progress = {
            name: follow(self._progress.get(name), sighting, now)
            for name, sighting in sightings.items()
        }
        stuck = [name for name, progress in self._progress.items() if is_stuck(progress, now)]
        for name in stuck:
            waiting = sightings[name].waiting
            logger.error("worker.stuck", extra={"metadata": {"worker": name, "hints": waiting}})
            del self._progress[name]
            self._supervisor.restart(name)
        return stuck

    def _sightings(self) -> Mapping[str, Sighting]:
        running = {state.name: state.pid for state in self._supervisor.states() if state.is_running}
        return {
            name: self._sighting(queue, running[name])
            for name, queue in WORKERS.items()
            if name in running
        }

    def _sighting(self, queue: str, pid: int) -> Sighting:
        waiting = self._client.llen(queue)
        active = self._client.hget(keys.ACTIVE, f"{queue}@{self._host}")
        return Sighting(pid, int(waiting), str(active or ""))


def main() -> int:
    settings = settings_or_exit()
    logs.configure("watcher", level=settings.log.level, directory=settings.log.dir)
    client = connect(settings, max_connections=1)
    supervisor = Supervisor(StackState.read(Path.cwd()).supervisor_socket)
    watcher = Watcher(supervisor, client, socket.gethostname())
    while True:
        try:
            watcher.look(time.monotonic())
        except StackError as error:
            logger.warning("watcher.failed", extra={"metadata": {"error": str(error)}})
        time.sleep(LOOK_EVERY_S)


if __name__ == "__main__":
    sys.exit(main())
