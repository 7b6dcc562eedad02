"""Log lines go out once per turn of the event loop, not by one system call each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


@contextmanager
def flushed_each_turn(handlers: Iterable[logging.Handler]) -> Iterator[None]:
    """While it lasts, what these handlers write in the event loop is flushed when its turn ends.

    Their `flush` must not raise (`shared.log_files`): asyncio would log that, and flush, and so on.
    """
    soons = [_FlushSoon(handler) for handler in handlers]
    for soon in soons:
        soon.begin()
    try:
        yield
    finally:
        for soon in soons:
            soon.end()


class _FlushSoon:
    """Stands where a handler has its `flush`."""

    def __init__(self, handler: logging.Handler) -> None:
        self._handler = handler
        self._flush = handler.flush
        self._is_due = False

    def begin(self) -> None:
        self._handler.flush = self._soon  # type: ignore[method-assign]

    def end(self) -> None:
        self._handler.flush = self._flush  # type: ignore[method-assign]
        self._flush()

    def _soon(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # a thread, or the loop has ended
            self._flush()
            return
        if not self._is_due:
            self._is_due = True
            loop.call_soon(self._now)

    def _now(self) -> None:
        self._is_due = False
        self._flush()
