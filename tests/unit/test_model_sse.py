"""Server-sent events: the same events, however the bytes are cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.model.sse import SseEvent, SseParser


def parse(*chunks: bytes) -> list[SseEvent]:
    parser = SseParser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_every_line_end_is_understood(end: bytes) -> None:
    stream = end.join([b"data: a", b"", b"data: b", b"", b""])
    assert parse(stream) == [SseEvent("a"), SseEvent("b")]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data:a\n\n", [SseEvent("a")]),
        (b"data:  a\n\n", [SseEvent(" a")]),
        (b"data: a\ndata: b\n\n", [SseEvent("a\nb")]),
        (b"data\n\n", [SseEvent("")]),
        (b"event: error\ndata: a\n\ndata: b\n\n", [SseEvent("a", "error"), SseEvent("b")]),
        (b": ping\n\ndata: a\n\n", [SseEvent(None), SseEvent("a")]),
        (b"\n\n\ndata: a\n\n", [SseEvent("a")]),
        (b"\xef\xbb\xbfdata: a\n\n", [SseEvent("a")]),
        (b"id: 7\nretry: 10\nother\ndata: a\n\n", [SseEvent("a")]),
        (b"event: only a name\n\n", []),
        (b"data: not closed\n", []),
        ("data: 你好: 世界\n\n".encode(), [SseEvent("你好: 世界")]),
        (b"data: \xff\n\n", [SseEvent("\ufffd")]),
    ],
)
def test_fields_are_read_as_the_specification_says(stream: bytes, events: list[SseEvent]) -> None:
    assert parse(stream) == events


def test_event_is_given_out_before_the_lf_of_its_last_crlf_has_come() -> None:
    parser = SseParser()
    assert parser.feed(b"data: a\r\n\r") == [SseEvent("a")]
    assert parser.feed(b"\ndata: b\r\n\r\n") == [SseEvent("b")]


@given(cuts=st.lists(st.integers(0, 200)), end=st.sampled_from(["\n", "\r\n", "\r"]))
def test_cuts_change_nothing(cuts: list[int], end: str) -> None:
    lines = ["\ufeff: ping", "data: 你好", "data: 😀", "", "event: x", "data: {}", "", "", ""]
    stream = end.join(lines).encode()
    places = sorted({0, len(stream), *(cut % len(stream) for cut in cuts)})
    chunks = [stream[a:b] for a, b in itertools.pairwise(places)]
    assert parse(*chunks) == [SseEvent(None), SseEvent("你好\n😀"), SseEvent("{}", "x")]


def test_event_without_end_is_refused() -> None:
    parser = SseParser(max_event_bytes=100)
    parser.feed(b"data: " + b"x" * 60)
    with pytest.raises(ValueError, match="larger than 100 bytes"):
        parser.feed(b"x" * 60)


def test_size_is_counted_for_each_event_alone() -> None:
    parser = SseParser(max_event_bytes=100)
    for _ in range(50):
        assert parser.feed(b": ping\ndata: 12345678\n\n") == [SseEvent(None), SseEvent("12345678")]
