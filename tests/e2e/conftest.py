"""One running stack for all tests that leave it as they found it; logs where a test failed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

import pytest

from tests.e2e.stack import Stack
from tests.e2e.talk import Talk


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows the end of every process's log."""
    report = yield
    if report.failed:
        arguments: dict[str, Any] = getattr(item, "funcargs", {})
        for stack in (value for value in arguments.values() if isinstance(value, Stack)):
            report.sections += stack.log_tails()
    return report


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The shared stack: one worker a stage on threads, four bots, short patience."""
    settings = {
        "CLAWDBOT_SECURITY__QPS": "100000",
        "CLAWDBOT_RETRY__PROCESS_LIMIT_S": "30",
    }
    directory = tmp_path_factory.mktemp("stack")
    with Stack(directory / "run", settings=settings, more_bots=True) as running:
        yield running


@pytest.fixture
async def talk(stack: Stack) -> AsyncIterator[Talk]:
    """People who talk to the shared stack, in a world without faults and memories."""
    async with stack.client() as client:
        await client.control("reset")
        await client.control("model", {"latency_s": 0, "tokens": 4, "token_interval_s": 0})
        yield Talk(stack, client)
