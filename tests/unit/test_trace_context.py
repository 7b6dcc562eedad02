"""W3C trace context: what is taken in, and what is passed on."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.trace_context import Trace, read_parent, read_state

TRACE_ID, PARENT_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE_ID}-{PARENT_ID}-01"
OURS = "c91c3e84ebb4e404745addee"


@pytest.mark.parametrize("flags", ["00", "01"])
def test_a_valid_parent_is_taken_as_it_is(flags: str) -> None:
    parent = f"00-{TRACE_ID}-{PARENT_ID}-{flags}"

    assert read_parent([parent]) == parent


@pytest.mark.parametrize(
    ("flags", "kept"), [("ff", "01"), ("fe", "00"), ("09", "01"), ("02", "00")]
)
def test_of_the_flags_only_sampled_is_kept(flags: str, kept: str) -> None:
    assert read_parent([f"00-{TRACE_ID}-{PARENT_ID}-{flags}"])[-2:] == kept


@pytest.mark.parametrize("tail", ["", "-", "-what-the-future-holds", "-09"])
def test_a_later_version_is_read_as_far_as_it_is_known(tail: str) -> None:
    assert read_parent([f"cc-{TRACE_ID}-{PARENT_ID}-01{tail}"]) == PARENT


@pytest.mark.parametrize(
    "values",
    [
        [],
        [""],
        [PARENT, PARENT],
        [PARENT.upper()],
        [f" {PARENT}"],
        [f"{PARENT}\n"],
        [f"{PARENT}-09"],  # version 00 has exactly four fields
        [f"{PARENT}."],
        [f"ff-{TRACE_ID}-{PARENT_ID}-01"],
        [f"0-{TRACE_ID}-{PARENT_ID}-01"],
        [f"00-{'0' * 32}-{PARENT_ID}-01"],
        [f"00-{TRACE_ID}-{'0' * 16}-01"],
        [f"00-{TRACE_ID[:-1]}-{PARENT_ID}-01"],
        [f"00-{TRACE_ID}g-{PARENT_ID}-01"],
        [f"00-{TRACE_ID}-{PARENT_ID}-1"],
        [f"00-{TRACE_ID}-{PARENT_ID}-0g"],
        [f"00-{TRACE_ID}_{PARENT_ID}_01"],
        [f"cc-{TRACE_ID}-{PARENT_ID}-01.what"],
        [f"cc-{TRACE_ID}-{PARENT_ID}-01-\x00"],
        [f"cc-{TRACE_ID}-{PARENT_ID}-01-汉"],
        [f"００-{TRACE_ID}-{PARENT_ID}-01"],
    ],
)
def test_rubbish_is_ignored(values: list[str]) -> None:
    assert read_parent(values) == ""


@pytest.mark.parametrize(
    ("values", "state"),
    [
        (["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"], "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
        (["rojo=1", "congo=2"], "rojo=1,congo=2"),
        ([" rojo=1 ,\t,congo=a b "], "rojo=1,congo=a b"),
        (["tenant@system=1,1a-2*3/4_5=!"], "tenant@system=1,1a-2*3/4_5=!"),
        ([], ""),
        ([""], ""),
        (["rojo"], ""),
        (["rojo="], ""),
        (["Rojo=1"], ""),
        (["rojo=1,rojo=2"], ""),
        (["rojo=1=2"], ""),
        (["rojo=\x01"], ""),
        (["rojo=汉"], ""),
        (["rojo=1\r\nX-Evil: 1"], ""),
        (["k" * 257 + "=1"], ""),
        (["k=" + "v" * 257], ""),
        (["k=" + "v" * 256, "l=" + "v" * 251], "k=" + "v" * 256 + ",l=" + "v" * 251),
        (["k=" + "v" * 256, "l=" + "v" * 252], ""),  # 513 characters
        ([",".join(f"k{n}=1" for n in range(32))], ",".join(f"k{n}=1" for n in range(32))),
        ([",".join(f"k{n}=1" for n in range(33))], ""),
    ],
)
def test_state_is_passed_on_whole_or_not_at_all(values: list[str], state: str) -> None:
    assert read_state(values) == state


def test_the_model_gets_the_callers_trace_under_a_new_span() -> None:
    headers = Trace(OURS, PARENT, "rojo=1").headers("b7ad6b7169203331")

    assert headers == {
        "X-Trace-Id": OURS,
        "traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01",
        "tracestate": "rojo=1",
    }


def test_a_trace_that_begins_here_is_ours_filled_with_zeros_and_not_sampled() -> None:
    headers = Trace(OURS).headers("b7ad6b7169203331")

    assert headers == {
        "X-Trace-Id": OURS,
        "traceparent": f"00-00000000{OURS}-b7ad6b7169203331-00",
    }
    assert read_parent([headers["traceparent"]]) == headers["traceparent"]


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.lists(st.text(max_size=80) | st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-.*"), max_size=2))
def test_whatever_comes_in_only_a_plain_header_goes_out(values: list[str]) -> None:
    for line in (read_parent(values), read_state(values)):
        assert re.fullmatch(r"[ -~]{0,512}", line)
