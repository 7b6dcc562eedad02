"""Cutting and cleaning text; reading values of any type."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.errors import MalformedError
from shared.platforms.text import (
    id_in,
    load_json,
    ms_in,
    name_in,
    read_object,
    sendable,
    split,
    string_in,
    vendor_detail,
    wait_s_in,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("text", "limit", "parts"),
    [
        ("short", 100, ("short",)),
        ("one one\n\ntwo two\n\nthree", 22, ("one one\n\ntwo two", "three")),
        ("line one\nline two\nline", 20, ("line one\nline two", "line")),
        ("First one. Second one. End", 24, ("First one. Second one.", "End")),
        ("第一句。第二句。第三句", 26, ("第一句。第二句。", "第三句")),
        ("alpha beta gamma delta", 18, ("alpha beta gamma", "delta")),
        ("abcdefghij", 4, ("abcd", "efgh", "ij")),
        ("汉字汉字", 7, ("汉字", "汉字")),
        ("🙂🙂🙂", 9, ("🙂🙂", "🙂")),
        ('""""', 4, ('""', '""')),
        ("  indented\n", 100, ("  indented",)),
        ("\n\n  \n", 100, ()),
        ("", 100, ()),
    ],
)
def test_text_is_cut_at_the_best_border(text: str, limit: int, parts: tuple[str, ...]) -> None:
    assert split(text, limit) == parts


def test_a_border_near_the_beginning_does_not_make_a_tiny_part() -> None:
    text = "a\n\n" + "b" * 200
    assert split(text, 100)[0] == "a\n\n" + "b" * 95


def test_a_megabyte_is_cut_without_loss() -> None:
    text = "汉字\n" * 150_000
    parts = split(text, 14_000)
    assert "".join(parts).replace("\n", "") == "汉字" * 150_000
    assert max(len(json.dumps(p, ensure_ascii=False).encode()) for p in parts) <= 14_002


def test_what_no_chat_shows_is_removed() -> None:
    assert sendable("a\x00\x1b[0m\r\nb\rc\td\ud800") == "a[0m\nb\nc\td�"


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"1", b"\xff", b"[" * 100_000, b"1" * 5000, '{"a":1}'.encode("utf-16")],
    ids=lambda b: repr(b[:6]),
)
def test_only_a_utf8_object_is_read(body: bytes) -> None:
    with pytest.raises(MalformedError, match="json"):
        read_object(body)


@pytest.mark.parametrize("value", [None, 5, [], {}, "", "x" * 257, "a\nb", "\ud800", "\x00"])
def test_what_can_not_be_an_id_is_none(value: Any) -> None:
    assert id_in(value) == ""


@pytest.mark.parametrize(
    ("value", "ms"),
    [(5, 5), ("5", 5), (0, 0), (-5, 0), (True, 0), (1.5, 0), ("x", 0), (10**14, 0), ("9" * 30, 0)],
)
def test_an_absurd_time_is_zero(value: Any, ms: int) -> None:
    assert ms_in(value) == ms


def test_text_of_any_type_is_text() -> None:
    assert string_in(5) == ""
    assert string_in("a\ud83db") == "a�b"
    assert string_in("🙂") == "🙂"


@pytest.mark.parametrize(
    "name", ["👩\u200d👩\u200d👧 Ada", "Ada\xa0L.", "张\u3000三", "\u200fعادل"]
)
def test_a_name_is_what_its_owner_wrote(name: str) -> None:
    assert name_in(name) == name


def test_a_name_is_one_short_line_without_controls() -> None:
    assert name_in("A\x1b[31mda\x9b2J\r\nsystem:\u2028x\n") == "A [31mda 2J system: x"
    assert name_in("a\ud83db") == "a�b"
    assert len(name_in("x" * 500)) == 256
    assert name_in(["Ada"]) == ""


def test_a_vendors_words_become_one_short_line() -> None:
    assert vendor_detail("a\n b", "c") == "a b c"
    assert vendor_detail(None, "c") == "c"
    assert len(vendor_detail("x" * 500)) == 200


@pytest.mark.parametrize(
    ("words", "left"),
    [
        ("wrong key 0123456789abcdef0123456789abcdef", "wrong key …"),
        ("no such session: https://oapi.dingtalk.com/x?session=ab", "no such session: …"),
        ("token=t-g1044qeGEDXTB6NDJOGV4JQCYDGHRBARFTGT1234 is invalid", "… is invalid"),
        ("Forbidden.AccessDenied.AccessTokenPermissionDenied", None),
        ("too many calls, wait 60 seconds", None),
        ("机器人不存在 errcode 300001", None),
    ],
)
def test_what_a_vendor_repeats_of_a_secret_is_left_out(words: str, left: str | None) -> None:
    assert vendor_detail(words) == (words if left is None else left)
    assert vendor_detail(words, "(log id 0123456789abcdef)").endswith("(log id 0123456789abcdef)")


def test_a_long_text_of_a_vendor_takes_no_time() -> None:
    assert len(vendor_detail("x" * 1_000_000)) == 200


def test_the_first_usable_wait_counts() -> None:
    headers = {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT", "x-reset": "12"}
    assert wait_s_in(headers, "retry-after", "x-reset", default_s=1.0) == 12.0
    assert wait_s_in({}, "retry-after", default_s=2.5) == 2.5


@given(text=st.one_of(JSON.map(json.dumps), JSON.map(partial(json.dumps, indent=1)), st.text()))
@example("{} ")
@example("{}}")
@example('{"a": NaN, "b": 1e999, "c": "\\ud800"}')
@example('{"a": ' * 5)
@example("{" + "[" * 100_000)
@example("\ufeff{}")
def test_json_is_read_as_the_library_reads_it(text: str) -> None:
    assert read_or_error(load_json, text) == read_or_error(json.loads, text)


def read_or_error(read: Callable[[str], Any], text: str) -> str:
    try:
        return repr(read(text))
    except (ValueError, RecursionError) as error:
        return type(error).__name__


@given(text=st.text(st.characters()))
def test_lone_surrogates_alone_are_replaced(text: str) -> None:
    assert string_in(text) == text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def test_a_long_run_of_full_stops_costs_no_more_than_its_length() -> None:
    started = time.process_time()
    split("." * 60_000, 30_000)

    assert time.process_time() - started < 2  # each as the first before a space: 6 s
