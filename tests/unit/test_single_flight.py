"""One at a time, and one result for all who wait."""

from __future__ import annotations

import asyncio

import pytest

from ingress.single_flight import SingleFlight


class Work:
    """Goes on until it may end."""

    def __init__(self) -> None:
        self.begun = 0
        self.has_begun = asyncio.Event()
        self.may_end = asyncio.Event()

    async def __call__(self) -> int:
        self.begun += 1
        self.has_begun.set()
        await self.may_end.wait()
        if self.begun == 2:
            raise ValueError
        return self.begun


async def test_who_comes_while_it_is_under_way_gets_its_result() -> None:
    work = Work()
    flight = SingleFlight(work)
    callers = [asyncio.create_task(flight.result()) for _ in range(100)]
    await work.has_begun.wait()
    work.may_end.set()

    assert await asyncio.gather(*callers) == [1] * 100
    with pytest.raises(ValueError):
        await flight.result()
    assert await flight.result() == 3


async def test_who_leaves_stops_nobody() -> None:
    work = Work()
    flight = SingleFlight(work)
    leaving, staying = (asyncio.create_task(flight.result()) for _ in range(2))
    await work.has_begun.wait()
    leaving.cancel()
    await asyncio.wait([leaving])
    work.may_end.set()

    assert await staying == 1
    assert work.begun == 1
