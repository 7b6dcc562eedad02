"""The only outgoing sockets: HttpRequest out, HttpResponse in, within a Deadline.

Promises:
- A call ends at its deadline, whatever the server does: before the connection (name look-up,
  connect, TLS handshake), in the request, in the headers or in the body.
- The error tells whether the request can have been carried out. NotSentError and DeadlineError
  of `send`: certainly not. OutcomeUnknownError: perhaps.
- Only what certainly was not sent is tried again, at most three times, within the deadline.
- Redirects are not followed and cookies not kept. No error and no log line carries a URL's path
  or query: they hold tokens.

requests' adapter is used without its Session: a session reads the body of a redirect without
bound, and keeps cookies.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from urllib.parse import urlsplit
from urllib.request import getproxies_environment

import backoff
import certifi
from requests import PreparedRequest
from requests.utils import should_bypass_proxies
from urllib3 import HTTPResponse as RawResponse
from urllib3.exceptions import HTTPError
from urllib3.util.ssl_ import create_urllib3_context

from shared.errors import NotSentError, OutcomeUnknownError
from shared.http_values import HttpRequest, HttpResponse
from workers.connections import CALL, Adapter, Call, unsendable
from workers.deadline import Deadline
from workers.resolver import Lookup, Resolver

MAX_BODY_BYTES = 1024 * 1024
CHUNK_BYTES = 16 * 1024
FINISH_S = 0.05  #: how long a finished stream's last bytes are waited for, to keep its connection
TRIES = 3
FIRST_WAIT_S = 0.1  #: before the second try, doubled before the third, with full jitter

_TRANSPORT_ERRORS = (HTTPError, HTTPException, OSError, ValueError)  # requests' own are OSErrors


class StreamedResponse:
    """An answer whose body is still coming. `headers` has lower-case names."""

    def __init__(self, raw: RawResponse, call: Call) -> None:
        self.status = raw.status
        self.headers = {name.lower(): value for name, value in raw.headers.items()}
        self._raw = raw
        self._call = call
        # We ask for no encoding; a gateway that packs all the same is unpacked, within bounds.
        self._packed = "content-encoding" in self.headers

    def chunks(self) -> Iterator[bytes]:
        """The body's bytes as they come off the socket; never waits for more than there is.

        Raises:
            DeadlineError: the time is over (`send`: OutcomeUnknownError)
            OutcomeUnknownError: the connection was cut before the body's end
        """
        try:
            while chunk := self._raw.read1(CHUNK_BYTES, decode_content=self._packed):
                yield chunk
        except _TRANSPORT_ERRORS as error:
            raise self._call.failed(error) from None
        if self._ends_with_connection and self._call.deadline.expired:
            raise self._call.over()  # it was the watchdog that ended it

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
        if not body and self._ends_with_connection:
            # http.client takes a connection cut among the headers for their end.
            raise OutcomeUnknownError("http:cut", "the connection was cut in the answer's headers")
        return HttpResponse(self.status, self.headers, bytes(body))

    def finish(self) -> None:
        """All that matters was read. Keeps the connection if the rest of the body comes at once."""
        connection = self._raw.connection
        if connection is not None and connection.sock is not None:
            connection.sock.settimeout(FINISH_S)
            with suppress(*_TRANSPORT_ERRORS):
                self._raw.read1(CHUNK_BYTES, decode_content=self._packed)

    @property
    def _ends_with_connection(self) -> bool:
        return self._raw.length_remaining is None and not self._raw.chunked


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
        self._adapter = Adapter(_tls_context(ca_bundle), concurrency)
        self._proxies = getproxies_environment()
        self._host_proxies: dict[str, dict[str, str]] = {}
        # urllib3 logs whole paths and queries (for headers it can't parse, and at DEBUG).
        logging.getLogger("urllib3").setLevel(logging.CRITICAL)

    def send(
        self, request: HttpRequest, deadline: Deadline, *, max_body_bytes: int = MAX_BODY_BYTES
    ) -> HttpResponse:
        """The whole answer, whatever its status.

        Raises:
            NotSentError: no request byte went out (name, connection, TLS)
            DeadlineError: likewise, and the time is over
            OutcomeUnknownError: request bytes went out, and no whole answer came; its code is
                the deadline's when that was the reason
            PermanentError: the request can't be sent as it is (its address, a header)
        """
        call = Call(deadline, self._resolver, is_effect=True)
        with self._exchange(request, call) as response:
            return response.read(max_body_bytes)

    @contextmanager
    def stream(self, request: HttpRequest, deadline: Deadline) -> Iterator[StreamedResponse]:
        """The answer as soon as its headers are there; for requests without an effect.

        Raises: as `send`, but DeadlineError whenever the time is over
        """
        with self._exchange(request, Call(deadline, self._resolver, is_effect=False)) as response:
            yield response

    def close(self) -> None:
        """Close the kept connections."""
        self._adapter.close()

    @contextmanager
    def _exchange(self, request: HttpRequest, call: Call) -> Iterator[StreamedResponse]:
        prepared = _prepare(request)
        token = CALL.set(call)
        try:
            raw = self._open(call, prepared)
        except BaseException:
            call.deadline.release()
            raise
        finally:
            CALL.reset(token)
        try:
            yield StreamedResponse(raw, call)
        finally:
            raw.close()  # does nothing when the body was read to its end
            raw.release_conn()
            call.deadline.release()

    @backoff.on_exception(
        backoff.expo,
        NotSentError,
        max_tries=TRIES,
        factor=FIRST_WAIT_S,
        jitter=lambda wait_s: min(backoff.full_jitter(wait_s), CALL.get().deadline.remaining()),
        logger=None,
    )
    def _open(self, call: Call, prepared: PreparedRequest) -> RawResponse:
        """Send the request and read the answer's headers."""
        deadline = call.deadline
        deadline.check()
        try:
            raw: RawResponse = self._adapter.send(
                prepared,
                stream=True,
                timeout=deadline.remaining() + 1,  # behind the watchdog, should it ever fail
                proxies=self._proxies_for(str(prepared.url)) if self._proxies else None,
            ).raw
        except _TRANSPORT_ERRORS as error:
            raise call.failed(error) from None
        if deadline.expired:  # the watchdog's cut among the headers looks like their end
            raw.close()
            raw.release_conn()
            raise call.over()
        return raw

    def _proxies_for(self, url: str) -> dict[str, str]:
        host = urlsplit(url).netloc
        if host not in self._host_proxies:
            bypass = should_bypass_proxies(url, no_proxy=None)
            self._host_proxies[host] = {} if bypass else self._proxies
        return self._host_proxies[host]


def _prepare(request: HttpRequest) -> PreparedRequest:
    """Without cookies, authentication and hooks, which no request of ours has."""
    prepared = PreparedRequest()
    try:
        prepared.prepare_method(request.method)
        prepared.prepare_url(request.url, None)
        prepared.prepare_headers({"User-Agent": "clawdbot", **request.headers})
        prepared.prepare_body(request.body or None, None)
    except (ValueError, OSError):
        raise unsendable() from None
    return prepared


def _tls_context(ca_bundle: str | None) -> ssl.SSLContext:
    """One for all connections: reading certifi's bundle takes some 50 ms of CPU."""
    bundle = ca_bundle or os.environ.get("REQUESTS_CA_BUNDLE") or certifi.where()
    context = create_urllib3_context()
    if os.path.isdir(bundle):
        context.load_verify_locations(capath=bundle)
    else:
        context.load_verify_locations(cafile=bundle)
    return context
