"""HTTP/1.1 as bytes: a request's, written in one piece; an answer's, read as they come.

httptools reads: llhttp, the parser of Node.js. The way through urllib3's `urlopen` and http.client,
most of it Python for headers and buffers, cost 0.75 ms more of CPU per call: a third of a stage.
Connections, TLS and proxies stay theirs (`workers.connections`).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

MAX_HEAD_BYTES = 64 * 1024
CHUNK_BYTES = 16 * 1024

_FIRST_FINAL_STATUS = 200  #: what comes before is information, and another answer follows
_EMPTY_STATUSES = frozenset({204, 304})
_ANY_ZLIB = zlib.MAX_WBITS | 32  #: gzip or zlib, by its first bytes


def request_bytes(
    method: str, target: str, host: str, headers: Mapping[str, str], body: bytes
) -> bytes:
    """Head and body in one piece: two sends would cost both sides more.

    Raises:
        ValueError: a line holds what no line may hold
    """
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Accept-Encoding: identity"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body or method != "GET":
        lines.append(f"Content-Length: {len(body)}")
    head = "\r\n".join(lines)
    ends = len(lines) - 1
    if head.count("\r") != ends or head.count("\n") != ends or "\0" in head:
        raise ValueError("a line of the request's head holds a line end")
    return head.encode("latin-1") + b"\r\n\r\n" + body


class Answer:
    """One answer, fed with what came off the socket. `headers` has lower-case names.

    is_whole: its end was read. keeps_connection: another request may follow on the connection.
    """

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.is_whole = False
        self.keeps_connection = False
        self._pieces: list[bytes] = []
        self._bodiless_bytes = 0  # fed since the last with some of the body
        self._parser: HttpResponseParser | None = HttpResponseParser(self)

    @property
    def ends_with_connection(self) -> bool:
        """The body has no other end than the connection's."""
        headers = self.headers
        return (
            self.status not in _EMPTY_STATUSES
            and "content-length" not in headers
            and "chunked" not in headers.get("transfer-encoding", "").lower()
        )

    def feed(self, data: bytes) -> None:
        """The next bytes; none: the connection has ended.

        Raises:
            ValueError: this is not HTTP, or not all of an answer
        """
        if not data:
            self._end()
        elif self._parser is None:
            self.keeps_connection = False  # it says more than it was asked
        else:
            self._parse(self._parser, data)

    @property
    def is_taken(self) -> bool:
        """No byte of the body waits to be taken."""
        return not self._pieces

    def take(self) -> bytes:
        """The body's bytes that came since the last time, still packed if they were."""
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _parse(self, parser: HttpResponseParser, data: bytes) -> None:
        try:
            parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            if not self.is_whole:
                raise ValueError("the answer is not HTTP") from error
        self._bodiless_bytes = 0 if self._pieces else self._bodiless_bytes + len(data)
        if self._bodiless_bytes > MAX_HEAD_BYTES:
            raise ValueError(f"the answer's head or trailer is larger than {MAX_HEAD_BYTES} bytes")

    def _end(self) -> None:
        self.keeps_connection = False
        if not self.is_whole and not (self.status and self.ends_with_connection):
            raise ValueError("the connection was cut in the answer")
        self.is_whole = True

    # What httptools calls.

    def on_message_begin(self) -> None:
        if self.is_whole:
            self.keeps_connection = False
            raise ValueError("more than one answer")
        self.headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.status:
            return  # a trailer: nobody reads one
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        known = self.headers.get(key)
        self.headers[key] = text if known is None else f"{known}, {text}"

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        status = self._parser.get_status_code()
        if status >= _FIRST_FINAL_STATUS:
            self.status = status

    def on_body(self, piece: bytes) -> None:
        self._pieces.append(piece)

    def on_message_complete(self) -> None:
        assert self._parser is not None
        if self.status:
            self.is_whole = True
            self.keeps_connection = self._parser.should_keep_alive()
            self._parser = None  # it holds our methods: a ring that only the collector would undo


def unpacker(encoding: str) -> Callable[[bytes], Iterator[bytes]]:
    """What makes a body plain again, piece by piece, so that a bomb is met by the reader's bound.

    We ask for no encoding; a gateway that packs all the same mostly uses gzip.

    Raises:
        ValueError: (the returned function) the body is not what its header says
    """
    if encoding.lower() not in ("gzip", "x-gzip", "deflate"):
        return lambda data: iter((data,))
    packed = zlib.decompressobj(_ANY_ZLIB)

    def unpack(data: bytes) -> Iterator[bytes]:
        try:
            while data:
                yield packed.decompress(data, CHUNK_BYTES)
                data = packed.unconsumed_tail
        except zlib.error as error:
            raise ValueError("the body is not packed as its header says") from error

    return unpack
