"""A prefork worker that was told to stop ends, also when one of its children doesn't.

Celery's warm shutdown waits for the end of every child without a limit. In once in some hundred
stops a child never ended although all tasks were done: the pool had lost another one before.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

IDLE_S = 5.0  #: without a task, a child that was told to end has ended long before
LOOK_S = 0.5

logger = logging.getLogger(__name__)


def end_stuck_children(children: Callable[[], Iterable[int]], is_busy: Callable[[], bool]) -> None:
    """Kill what is left of `children` (pids) when nothing was busy for `IDLE_S`.

    For a thread of a worker that is stopping; one that ends in time takes the thread with it.
    """
    idle_since = time.monotonic()
    while time.monotonic() - idle_since < IDLE_S:
        time.sleep(LOOK_S)
        if is_busy():
            idle_since = time.monotonic()
    for pid in children():
        logger.warning("child.stuck", extra={"metadata": {"pid": pid}})
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
