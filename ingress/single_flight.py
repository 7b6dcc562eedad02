"""Work that is dear, and asked for by anybody: one at a time, and one result for all who wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """work: must end by itself; it goes on when those who asked for it are gone."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._work = work
        self._under_way: asyncio.Task[T] | None = None

    async def result(self) -> T:
        """That of the work which is under way, or else begins now. Raises: what the work raises."""
        if self._under_way is None or self._under_way.done():
            self._under_way = asyncio.create_task(self._work())
        return await asyncio.shield(self._under_way)
