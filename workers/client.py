"""The only outgoing sockets: HttpRequest out, HttpResponse in, within a Deadline.

Promises:
- A call ends at its deadline, whatever the server does: before the connection (name look-up,
  connect, TLS handshake), in the request, in the headers or in the body.
- The error tells whether the request can have been carried out. NotSentError and DeadlineError
  of `send`: certainly not. OutcomeUnknownError: perhaps.
- Only what certainly was not sent is tried again, at most three times, within the deadline.
- Redirects are not followed and cookies not kept. No error and no log line carries a URL's path
  or query: they hold tokens.
"""

from __future__ import annotations

import logging
import os
import re
import ssl
from collections.abc import Iterator
from contextlib import suppress
from contextvars import ContextVar
from http.client import HTTPException
from urllib.parse import urlsplit

import backoff
import certifi
from requests import PreparedRequest
from urllib3.exceptions import HTTPError
from urllib3.util.ssl_ import create_urllib3_context

from shared.errors import NotSentError, OutcomeUnknownError
from shared.http_values import HttpRequest, HttpResponse
from workers.connections import Call, Connection, Lending, Pools, unsendable
from workers.deadline import Deadline
from workers.http1 import CHUNK_BYTES, Answer, request_bytes, unpacker
from workers.resolver import Lookup, Resolver

MAX_BODY_BYTES = 1024 * 1024
FINISH_S = 0.05  #: how long a finished stream's last bytes are waited for, to keep its connection
TRIES = 3
FIRST_WAIT_S = 0.1  #: before the second try, doubled before the third, with full jitter
USER_AGENT = {"User-Agent": "clawdbot"}

_TRANSPORT_ERRORS = (HTTPError, HTTPException, OSError, ValueError)  # requests' own are OSErrors

#: An address that says what it means: origin, host, target. Others are worked out by requests.
_PLAIN_URL = re.compile(
    r"(https?://([A-Za-z0-9.-]+(?::[0-9]{1,5})?))(/[A-Za-z0-9._~:/?@!$&'()*+,;=%-]*)"
)

#: The deadline of the call that this thread or greenlet is opening, for the waits between tries.
_DEADLINE: ContextVar[Deadline] = ContextVar("deadline")


class StreamedResponse:
    """An answer whose body is still coming. `headers` has lower-case names.

    Leave its `with` block as soon as nothing more is needed: that gives the connection back.
    """

    def __init__(self, connection: Connection, pool: Lending, call: Call) -> None:
        self._connection = connection
        self._pool = pool
        self._call = call
        self._answer = Answer()

    def open(self, request: bytes) -> None:
        """Send the request, and read until the headers are there. Raises: transport's errors."""
        try:
            self._connection.ask(request)
        except ConnectionError:
            # It may have answered before it had the whole request, with 413 for instance.
            with suppress(*_TRANSPORT_ERRORS):
                self._read_head()
            if not self._answer.status:
                raise
        self._read_head()
        self.status = self._answer.status
        self.headers = self._answer.headers

    def __enter__(self) -> StreamedResponse:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back, to be kept if the answer was read to its end."""
        self._pool.take_back(self._connection, keep=self._answer.keeps_connection)
        self._call.deadline.release()

    def chunks(self) -> Iterator[bytes]:
        """The body's bytes as they come off the socket; never waits for more than there is.

        Raises:
            DeadlineError: the time is over (`send`: OutcomeUnknownError)
            OutcomeUnknownError: the connection was cut before the body's end
        """
        unpack = unpacker(self.headers.get("content-encoding", ""))
        try:
            while not (self._answer.is_whole and self._answer.is_taken):
                if self._answer.is_taken:
                    self._read()
                else:
                    yield from unpack(self._answer.take())
        except _TRANSPORT_ERRORS as error:
            raise self._call.failed(error) from None

    def read(self, max_bytes: int = MAX_BODY_BYTES) -> HttpResponse:
        """The whole answer.

        Raises: as `chunks`; OutcomeUnknownError, too, for a body over `max_bytes`
        """
        body = bytearray()
        for chunk in self.chunks():
            body += chunk
            if len(body) > max_bytes:
                raise OutcomeUnknownError(
                    "http:too_large", f"the answer is larger than {max_bytes} bytes"
                )
        return HttpResponse(self.status, self.headers, bytes(body))

    def finish(self) -> None:
        """All that matters was read. Keeps the connection if the rest of the body comes at once."""
        if not self._answer.is_whole:
            self._connection.sock.settimeout(FINISH_S)
            with suppress(*_TRANSPORT_ERRORS):
                self._read()

    def _read_head(self) -> None:
        while not self._answer.status:
            self._read()

    def _read(self) -> None:
        data = self._connection.sock.recv(CHUNK_BYTES)
        if not data and self._call.deadline.expired:
            raise TimeoutError  # it was the watchdog that ended the connection
        self._answer.feed(data)


class HttpClient:
    """Make one per process, after the fork: connections are kept in it, and it is thread-safe.

    concurrency: how many calls run at once; so many idle connections per host are kept. A
        connection takes two file descriptors.
    ca_bundle: file of trusted certificates; None: REQUESTS_CA_BUNDLE, else certifi's.
    getaddrinfo: for name look-ups; None: the system's.
    The environment's proxies and REQUESTS_CA_BUNDLE are read here, once.
    """

    def __init__(
        self,
        *,
        concurrency: int,
        ca_bundle: str | None = None,
        getaddrinfo: Lookup | None = None,
    ) -> None:
        self._resolver = Resolver(getaddrinfo)
        self._pools = Pools(_tls_context(ca_bundle), concurrency)
        # urllib3 logs whole paths and queries (for headers it can't parse, and at DEBUG).
        logging.getLogger("urllib3").setLevel(logging.CRITICAL)

    def send(self, request: HttpRequest, deadline: Deadline) -> HttpResponse:
        """The whole answer, whatever its status.

        Raises:
            NotSentError: no request byte went out (name, connection, TLS)
            DeadlineError: likewise, and the time is over
            OutcomeUnknownError: request bytes went out, and no whole answer came; its code is
                the deadline's when that was the reason
            PermanentError: the request can't be sent as it is (its address, a header)
        """
        with self._open(request, Call(deadline, self._resolver, is_effect=True)) as response:
            return response.read()

    def stream(self, request: HttpRequest, deadline: Deadline) -> StreamedResponse:
        """The answer as soon as its headers are there; for requests without an effect.

        To be used in a `with` statement. Raises: as `send`, but DeadlineError whenever the time is
        over
        """
        return self._open(request, Call(deadline, self._resolver, is_effect=False))

    def close(self) -> None:
        """Close the kept connections."""
        self._pools.close()

    def _open(self, request: HttpRequest, call: Call) -> StreamedResponse:
        origin, host, target = _split(request.url)
        pool = self._pools.of(origin)
        headers = {**USER_AGENT, **request.headers}
        if pool.forwards:
            target, headers = origin + target, {**headers, **pool.proxy_headers}
        try:
            wire = request_bytes(request.method, target, host, headers, request.body)
        except ValueError:
            raise unsendable() from None
        token = _DEADLINE.set(call.deadline)
        try:
            return self._try(wire, pool, call)
        finally:
            _DEADLINE.reset(token)

    @backoff.on_exception(
        backoff.expo,
        NotSentError,
        max_tries=TRIES,
        factor=FIRST_WAIT_S,
        jitter=lambda wait_s: min(backoff.full_jitter(wait_s), _DEADLINE.get().remaining()),
        logger=None,
    )
    def _try(self, wire: bytes, pool: Lending, call: Call) -> StreamedResponse:
        """Send the request and read the answer's headers."""
        call.deadline.check()
        try:
            response = StreamedResponse(pool.lend(call), pool, call)
        except _TRANSPORT_ERRORS as error:
            call.deadline.release()
            raise call.failed(error) from None
        except BaseException:
            call.deadline.release()
            raise
        try:
            response.open(wire)
        except BaseException as error:
            response.close()
            if isinstance(error, _TRANSPORT_ERRORS):
                raise call.failed(error) from None
            raise
        return response


def _split(url: str) -> tuple[str, str, str]:
    """Origin, host and target of an address.

    Raises:
        PermanentError: it is none
    """
    plain = _PLAIN_URL.fullmatch(url)
    if plain is not None:
        return plain[1], plain[2], plain[3]
    prepared = PreparedRequest()
    try:
        prepared.prepare_url(url, None)
        parts = urlsplit(prepared.url or "")
    except (ValueError, OSError):
        raise unsendable() from None
    host = parts.netloc.rpartition("@")[2]
    if parts.scheme not in ("http", "https") or not host:
        raise unsendable()
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{host}", host, (parts.path or "/") + query


def _tls_context(ca_bundle: str | None) -> ssl.SSLContext:
    """One for all connections: reading certifi's bundle takes some 50 ms of CPU."""
    bundle = ca_bundle or os.environ.get("REQUESTS_CA_BUNDLE") or certifi.where()
    context = create_urllib3_context()
    if os.path.isdir(bundle):
        context.load_verify_locations(capath=bundle)
    else:
        context.load_verify_locations(cafile=bundle)
    return context
