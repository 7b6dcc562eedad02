"""Comparison of signatures, and the replay window."""

from __future__ import annotations

import pytest

from shared.platforms.signing import is_fresh, match_index, read_timestamp_ms


@pytest.mark.parametrize(
    ("presented", "accepted", "is_match"),
    [
        ("a", ["a"], True),
        ("a", ["b", "a", "c"], True),
        ("a", ["b"], False),
        ("a", [], False),
        ("", ["a"], False),
        ("é\ud800", ["é\ud800"], True),
    ],
)
def test_any_accepted_value_matches(presented: str, accepted: list[str], is_match: bool) -> None:
    assert (match_index(presented, accepted) >= 0) is is_match


def test_the_first_accepted_value_that_matches_is_told() -> None:
    assert [match_index(value, ["a", "b", "b"]) for value in ("a", "b", "c")] == [0, 1, -1]


def test_every_accepted_value_is_tried() -> None:
    tried = []
    assert match_index("a", (tried.append(value) or value for value in "abc")) == 0
    assert tried == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("header", "seconds", "value"),
    [
        ("1763791200", True, 1763791200000),
        ("1763791200123", True, 1763791200123),
        ("1763791200123", False, 1763791200123),
        ("1763791200", False, 1763791200),
        ("", True, None),
        ("-1", True, None),
        ("1.5", True, None),
        (" 1763791200", True, None),
        ("1e9", True, None),
        ("٣", True, None),
        ("9" * 400, True, None),
    ],
)
def test_only_plain_digits_are_a_timestamp(header: str, seconds: bool, value: int | None) -> None:
    assert read_timestamp_ms(header, seconds=seconds) == value


@pytest.mark.parametrize(
    ("timestamp_ms", "fresh"),
    [(1_000_000, True), (1_010_000, True), (990_000, True), (1_010_001, False), (989_999, False)],
)
def test_the_window_opens_to_both_sides(timestamp_ms: int, fresh: bool) -> None:
    assert is_fresh(timestamp_ms, now=1000.0, window_s=10) is fresh


def test_no_timestamp_is_not_fresh() -> None:
    assert not is_fresh(None, now=0.0, window_s=10)
