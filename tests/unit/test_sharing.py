"""Which end-to-end tests stay together when several stacks run at once."""

from __future__ import annotations

import pytest

from tests.e2e.sharing import group_of

MATRIX = "tests/e2e/test_kill_matrix.py::test_a_blow_loses_nothing"


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        (f"{MATRIX}[threads-separate-stop]", f"{MATRIX}[threads-separate-freeze]", True),
        (f"{MATRIX}[prefork-shared-stop]", f"{MATRIX}_too[prefork-shared]", True),
        (f"{MATRIX}[threads-separate-stop]", f"{MATRIX}[threads-shared-stop]", False),
        ("tests/e2e/test_outage.py::test_a", "tests/e2e/test_outage.py::test_b[x]", True),
        ("tests/container/test_compose.py::test_a", "tests/container/test_files.py::test_b", True),
        ("tests/e2e/test_kill.py::test_a[x]", "tests/e2e/test_kill.py::test_a[y]", False),
    ],
)
def test_what_shares_a_stack_stays_together(one: str, other: str, together: bool) -> None:
    assert (group_of(one) == group_of(other)) is together
