"""What the checks look at, and by what means."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import redis

from shared.config import Settings
from shared.errors import TaskError
from shared.http_values import HttpRequest, HttpResponse
from workers.client import HttpClient
from workers.deadline import Deadline
from workers.redis_client import connect

HTTP_TIMEOUT_S = 6.0  #: of one call, unless a check says otherwise


@dataclass(frozen=True)
class Subject:
    """A deployment as one machine sees it.

    ingress_url, flower_url: without a path. ntp: host:port of time servers. unknown: what the
    configuration centre may say and is not in `settings`. clock: Unix seconds.
    """

    settings: Settings
    ingress_url: str
    flower_url: str
    ntp: Sequence[str]
    unknown: Sequence[str] = ()
    http: HttpClient = field(default_factory=lambda: HttpClient(concurrency=8))
    clock: Callable[[], float] = time.time

    @contextmanager
    def redis(self) -> Iterator[redis.Redis]:
        """A client that tries once: a check has its own deadline, and says what it saw.

        Its calls raise redis.exceptions.RedisError, which skips a check that doesn't look at Redis
        itself.
        """
        client = connect(self.settings, max_connections=2, retries=0)
        try:
            yield client
        finally:
            client.close()

    def call(self, request: HttpRequest, timeout_s: float = HTTP_TIMEOUT_S) -> HttpResponse:
        """One HTTP call. Raises: TaskError, see `HttpClient.send`."""
        return self.http.send(request, Deadline(timeout_s))

    def get(self, url: str, timeout_s: float = HTTP_TIMEOUT_S) -> HttpResponse:
        """As `call`."""
        return self.call(HttpRequest("GET", url), timeout_s)


def port_of(url: str) -> int:
    """The port that an http or https address leads to."""
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


def reason(error: TaskError) -> str:
    """A failed call in words for a report."""
    return error.detail or error.code
