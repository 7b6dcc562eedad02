from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.container.stack import ComposeStack, engine_problem


@pytest.fixture(scope="session")
def engine() -> None:
    """Skips where no container can be started."""
    problem = engine_problem()
    if problem:
        pytest.skip(problem)


@pytest.fixture(scope="module")
def stack(engine: None) -> Iterator[ComposeStack]:
    """The whole stack without any credentials, up and ready."""
    stack = ComposeStack(f"clawdbot-test-{os.getpid()}")
    try:
        stack.up()
        yield stack
    finally:
        stack.remove()
