"""A time limit that is fair when this very process is the slow one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

TICK_S = 0.1

T = TypeVar("T")


async def within(limit_s: float, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled after `limit_s`.

    A busy event loop runs its due timers before it looks at its sockets: in a burst of thousands
    of requests, `asyncio.timeout` gave up on answers that had long arrived. Here the time is taken
    in ticks, and a loop that is late loses one tick, however late it is.

    Raises:
        TimeoutError: it was not done in time.
    """
    task = asyncio.ensure_future(work)
    try:
        for _ in range(max(1, round(limit_s / TICK_S))):
            done, _ = await asyncio.wait({task}, timeout=TICK_S)
            if done:
                return task.result()
        raise TimeoutError(f"not done in {limit_s} s")
    finally:
        if not task.done():
            await _end(task)


async def _end(task: asyncio.Future[Any]) -> None:
    """Cancel, and let it put its connection away; not for long: redis-py may swallow it."""
    task.cancel()
    await asyncio.wait({task}, timeout=TICK_S)
    task.add_done_callback(_look_away)


def _look_away(task: asyncio.Future[Any]) -> None:
    """Its error came too late to matter, and asyncio would complain that nobody looked."""
    if not task.cancelled():
        task.exception()
