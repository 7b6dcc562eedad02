"""HTTP that is none, or not quite: methods, paths, headers, lengths, chunks."""

from __future__ import annotations

from collections.abc import Iterator

from tests.hostile.case import (
    ANY,
    CLOSED,
    IGNORED,
    REFUSED_OR_CLOSED,
    Case,
    head_of,
    message,
    said,
    wire_of,
)
from tests.hostile.proofs import SIGNATURE
from tests.hostile.tables import (
    HEADERS,
    LENGTHS,
    METHODS,
    PATHS,
    RUBBISH,
    SAME_PATHS,
    VERSIONS,
)
from tests.simulator.events import Request


def methods(platform: str) -> Iterator[Case]:
    request = _request(platform, "method")
    for method in METHODS:
        wire = wire_of(request, method=method)
        yield Case(f"the method {method[:12]!r}", wire, REFUSED_OR_CLOSED, half_closes=True)
    wire = wire_of(request, method="POST ")
    yield Case("two spaces behind the method", wire, ANY, None, half_closes=True)
    for version in VERSIONS:
        wire = wire_of(request).replace(b" HTTP/1.1\r\n", f" {version}\r\n".encode(), 1)
        yield Case(f"the version {version[:12]!r}", wire, ANY, None, half_closes=True)


def paths(platform: str) -> Iterator[Case]:
    for pattern in PATHS:
        wire = wire_of(_request(platform, pattern), path=_path(pattern, platform))
        yield Case(f"the path {pattern[:30]!r}", wire, REFUSED_OR_CLOSED, half_closes=True)
    for pattern in SAME_PATHS:
        wire = wire_of(_request(platform, pattern), path=_path(pattern, platform))
        yield Case(f"the path {pattern[:30]!r}", wire, ANY, None, half_closes=True)


def headers(platform: str) -> Iterator[Case]:
    """Lines that no header has; whether a proved call with them is taken does not matter."""
    for name, lines in HEADERS.items():
        wire = _with_lines(_request(platform, name), lines)
        yield Case(f"headers: {name}", wire, ANY, None, half_closes=True)
    twice = SIGNATURE[platform]
    for told, order in (("wrong, then right", 1), ("right, then wrong", -1)):
        path, given, body = _request(platform, told)
        values = ["wrong", given.pop(twice)][::order]
        lines = "".join(f"{twice}: {value}\r\n" for value in values).encode()
        wire = _with_lines((path, given, body), lines)
        yield Case(f"two signatures, {told}", wire, ANY, None)


def lengths(platform: str) -> Iterator[Case]:
    """What is said about the body's length, and what is sent."""
    for name, (line, template, taken) in LENGTHS.items():
        request = _request(platform, name)
        body = request[2]
        wire = head_of(request, line.replace("N", str(len(body))))
        wire += template.replace(b"BODY", body).replace(b"SIZE", b"%x" % len(body))
        events = {True: 1, False: 0, None: None}[taken]
        answers = IGNORED if taken else ANY if taken is None else REFUSED_OR_CLOSED | {408}
        yield Case(f"length: {name}", wire, answers, events, half_closes=taken is not True)


def pipelines(platform: str) -> Iterator[Case]:
    """Rubbish, alone and in the same packet behind a good call, which aiohttp then drops, too."""
    for name, rubbish in RUBBISH.items():
        request = _request(platform, name)
        wire = wire_of(request).replace(b"Connection: close\r\n", b"", 1) + rubbish
        yield Case(f"behind a good call: {name}", wire, ANY, None, half_closes=True)
    for name, rubbish in RUBBISH.items():
        yield Case(f"instead of a call: {name}", rubbish, ANY | {CLOSED}, half_closes=True)


def cuts(platform: str) -> Iterator[Case]:
    """A good call that ends early."""
    wire = wire_of(_request(platform, "cut"))
    for share in range(0, 100, 5):
        part = wire[: len(wire) * share // 100]
        yield Case(f"{share} % of a call", part, REFUSED_OR_CLOSED, half_closes=True)
    yield Case("all of a call but a byte", wire[:-1], REFUSED_OR_CLOSED, half_closes=True)


def _path(pattern: str, platform: str) -> str:
    return pattern.replace("HERE", f"/{platform}/webhook")


def _request(platform: str, name: str) -> Request:
    return said(platform, message(platform, name.encode("ascii", "replace").decode()))


def _with_lines(request: Request, lines: bytes) -> bytes:
    head, end, body = wire_of(request).partition(b"\r\n\r\n")
    return head + b"\r\n" + lines.removesuffix(b"\r\n") + end + body
