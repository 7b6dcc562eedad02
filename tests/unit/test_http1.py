"""Requests as bytes, and answers however their bytes are cut."""

from __future__ import annotations

import gzip
import itertools
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.http1 import CHUNK_BYTES, MAX_HEAD_BYTES, Answer, request_bytes, unpacker

PLAIN = b"HTTP/1.1 200 OK\r\nX-Id: a\r\nx-id: b\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2;note=1\r\nhe\r\n3\r\nllo\r\n0\r\nTrailer: x\r\n\r\n"
)
EARLY = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n"


def read(*pieces: bytes) -> tuple[Answer, bytes]:
    answer, body = Answer(), b""
    for piece in pieces:
        answer.feed(piece)
        body += answer.take()
    return answer, body


def cut(data: bytes, places: list[int]) -> list[bytes]:
    borders = [0, *sorted({place % len(data) for place in places} - {0}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(borders)]


@given(st.sampled_from([PLAIN, CHUNKED, EARLY + PLAIN]), st.lists(st.integers(0, 999), max_size=9))
def test_answer_is_the_same_however_it_is_cut(data: bytes, places: list[int]) -> None:
    answer, body = read(*cut(data, places))
    assert (answer.status, answer.is_whole, answer.keeps_connection) == (200, True, True)
    assert body == b"hello"
    assert "link" not in answer.headers


def test_repeated_headers_are_joined_under_one_lower_case_name() -> None:
    assert read(PLAIN)[0].headers["x-id"] == "a, b"


@pytest.mark.parametrize(
    ("head", "keeps"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", False),
        (PLAIN + b"HTTP/1.1 200 OK\r\n\r\n", False),
    ],
)
def test_connection_is_kept_only_in_step(head: bytes, keeps: bool) -> None:
    answer, _ = read(head)
    assert (answer.is_whole, answer.keeps_connection) == (True, keeps)


def test_more_after_the_end_does_not_change_the_answer() -> None:
    answer, body = read(PLAIN, b"HTTP/1.1 500 Oh\r\nX-Id: c\r\n\r\n")
    assert (answer.status, answer.headers["x-id"], body) == (200, "a, b", b"hello")
    assert not answer.keeps_connection


def test_body_without_a_length_ends_with_the_connection() -> None:
    answer, body = read(b"HTTP/1.1 200 OK\r\n\r\nhel", b"lo")
    assert not answer.is_whole
    answer.feed(b"")
    assert (answer.is_whole, answer.keeps_connection, body) == (True, False, b"hello")


@pytest.mark.parametrize("places", [[0, 3], [0, 30], [0, len(PLAIN) - 1], [0, len(EARLY)]])
def test_connection_cut_in_the_middle_is_an_error(places: list[int]) -> None:
    data = PLAIN if places[1] != len(EARLY) else EARLY + PLAIN
    answer, _ = read(data[: places[1]])
    with pytest.raises(ValueError, match="cut"):
        answer.feed(b"")


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n",
        b"HTTP/1.1 200 OK\r\nbroken line\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\nx",
    ],
)
def test_what_is_not_http_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="not HTTP"):
        read(data)


def test_endless_head_is_an_error() -> None:
    pieces = [b"y" * 1000] * (MAX_HEAD_BYTES // 1000 + 2)
    with pytest.raises(ValueError, match="larger"):
        read(b"HTTP/1.1 200 OK\r\nX: ", *pieces)


@pytest.mark.parametrize("line", [b"", b"\r\nX: "], ids=["one line", "many lines"])
def test_endless_trailer_is_an_error(line: bytes) -> None:
    pieces = [line + b"y" * 1000] * (MAX_HEAD_BYTES // 1000 + 2)
    with pytest.raises(ValueError, match="trailer is larger"):
        read(CHUNKED.removesuffix(b"\r\n\r\n"), *pieces)


def test_body_that_comes_in_small_chunks_may_be_long() -> None:
    tokens = [b"1\r\n", b"x", b"\r\n"] * MAX_HEAD_BYTES
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer, body = read(head, *tokens, b"0\r\n\r\n")
    assert (answer.is_whole, len(body)) == (True, MAX_HEAD_BYTES)


def test_trailer_changes_no_header() -> None:
    trailer = b"0\r\nTransfer-Encoding: identity\r\nContent-Type: application/json\r\n\r\n"
    answer, _ = read(CHUNKED.partition(b"0\r\n")[0], trailer)
    assert answer.is_whole
    assert answer.headers == {"transfer-encoding": "chunked"}


def test_request_is_one_piece() -> None:
    assert request_bytes("POST", "/a?b=c", "h:1", {"X-A": "é"}, b"{}") == (
        b"POST /a?b=c HTTP/1.1\r\nHost: h:1\r\nAccept-Encoding: identity\r\nX-A: \xe9\r\n"
        b"Content-Length: 2\r\n\r\n{}"
    )
    assert b"Content-Length: 0" in request_bytes("POST", "/", "h", {}, b"")
    assert b"Content-Length" not in request_bytes("GET", "/", "h", {}, b"")


@pytest.mark.parametrize("bad", ["a\nb", "a\rb", "a\r\nb", "a\0b", "你"])
def test_header_that_cannot_be_sent_is_an_error(bad: str) -> None:
    with pytest.raises(ValueError):
        request_bytes("POST", "/", "h", {"X-A": bad}, b"")


@given(st.binary(max_size=3000), st.sampled_from([gzip.compress, zlib.compress]), st.data())
def test_packed_body_is_unpacked_however_it_is_cut(body: bytes, pack, data) -> None:
    encoding = "gzip" if pack is gzip.compress else "deflate"
    packed = pack(body)
    unpack = unpacker(encoding)
    places = data.draw(st.lists(st.integers(0, 999), max_size=5))
    assert b"".join(part for piece in cut(packed, places) for part in unpack(piece)) == body


def test_bomb_comes_in_small_pieces() -> None:
    pieces = unpacker("gzip")(gzip.compress(b"0" * 10_000_000))
    assert all(len(next(pieces)) <= CHUNK_BYTES for _ in range(5))


def test_body_that_is_not_what_its_header_says_is_an_error() -> None:
    with pytest.raises(ValueError, match="packed"):
        list(unpacker("gzip")(b"plain text"))


def test_unknown_encoding_is_left_alone() -> None:
    assert list(unpacker("br")(b"abc")) == [b"abc"]
