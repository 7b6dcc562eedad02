"""This machine's clock beside the clocks that matter: the platforms', Redis's, NTP's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from functools import partial
from urllib.parse import urlsplit

from shared.errors import TaskError
from shared.platforms import PLATFORMS, load
from shared.platforms.base import Outbound
from workers.ops.doctor import sntp
from workers.ops.doctor.check import together
from workers.ops.doctor.finding import Finding, failed, ok, skipped, warning
from workers.ops.doctor.subject import Subject, reason

WARN_S = 5.0  #: more than a `Date` of whole seconds and its way can explain
FAIL_S = 300.0  #: DingTalk refuses at an hour, AccessKey signatures end after half an hour or less
NTP_TIMEOUT_S = 3.0
_DATE_ROUNDING_S = 0.5  #: `Date` cuts the fraction off: on average so much is missing


def look(subject: Subject) -> Iterator[Finding]:
    """One finding for each clock that answers."""
    platforms = [partial(_platform, subject, origin) for origin in _origins(subject)]
    servers = [partial(_ntp, subject, server) for server in subject.ntp]
    yield from together([*platforms, partial(_redis, subject), *servers])


def _origins(subject: Subject) -> list[str]:
    """Where the bots' platforms are, each once."""
    found = {}
    for bot in subject.settings.all_bots():
        outbound: Outbound = load(PLATFORMS[bot.platform].outbound)(bot.settings)
        url = urlsplit(outbound.token_requests()[0].url)
        found[f"{url.scheme}://{url.netloc}"] = True
    return list(found)


def _platform(subject: Subject, origin: str) -> Iterator[Finding]:
    host = origin.partition("://")[2]
    try:
        with _Midpoint(subject) as local:
            response = subject.get(f"{origin}/")
    except TaskError as error:
        yield skipped(f"{host} gives no time: {reason(error)}", "see the check credentials")
        return
    try:
        theirs = parsedate_to_datetime(response.headers.get("date", "")).timestamp()
    except ValueError:
        yield skipped(f"{host} gives no time: its answer has no Date")
        return
    yield _compared(host, local.time - theirs - _DATE_ROUNDING_S)


def _redis(subject: Subject) -> Iterator[Finding]:
    with subject.redis() as client:
        client.ping()  # the connection is no part of the measurement
        with _Midpoint(subject) as local:
            seconds, micros = client.time()
    yield _compared("Redis", local.time - seconds - micros / 1e6)


def _ntp(subject: Subject, server: str) -> Iterator[Finding]:
    try:
        with _Midpoint(subject) as local:
            theirs = sntp.ask(server, NTP_TIMEOUT_S)
    except (TaskError, OSError, ValueError) as error:
        yield skipped(f"NTP server {server} gives no time ({type(error).__name__})")
        return
    yield _compared(f"NTP server {server}", local.time - theirs)


class _Midpoint:
    """The local time in the middle of a `with` block: when the other side looked at its clock."""

    def __init__(self, subject: Subject) -> None:
        self._clock: Callable[[], float] = subject.clock

    def __enter__(self) -> _Midpoint:
        self._wall, self._started = self._clock(), time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.time = self._wall + (time.monotonic() - self._started) / 2


def _compared(whose: str, ahead_s: float) -> Finding:
    way = "ahead of" if ahead_s > 0 else "behind"
    seen = f"this machine is {abs(ahead_s):.1f} s {way} {whose}"
    cure = "keep it right by NTP, on this machine and on Redis's"
    fix = ("timedatectl set-ntp true", "chronyc tracking")
    if abs(ahead_s) < WARN_S:
        return ok(seen)
    if abs(ahead_s) < FAIL_S:
        return warning(seen, "Times in logs and reports differ; signatures still hold.", cure, *fix)
    return failed(
        seen,
        "Signatures carry the time: calls are refused as stale (401), keys and tokens fail.",
        cure,
        *fix,
    )
