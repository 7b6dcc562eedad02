"""The doctor's frame: whatever a check does, the report has it in time and goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from redis.exceptions import TimeoutError

from shared.config import load_settings
from shared.errors import (
    DeadlineError,
    NotSentError,
    OutcomeUnknownError,
    PermanentError,
    TaskError,
)
from shared.http_values import HttpRequest, HttpResponse
from workers.client import HttpClient
from workers.deadline import Deadline
from workers.ops.doctor.check import Check, Outcome, Run, together
from workers.ops.doctor.checks import ingress
from workers.ops.doctor.checks.redis_server import address_of
from workers.ops.doctor.command import local_url
from workers.ops.doctor.finding import Finding, Status, failed, ok, skipped, warning, worst
from workers.ops.doctor.registry import BOUND_S, CHECKS, NAMES
from workers.ops.doctor.subject import Subject


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    nowhere = "http://127.0.0.1:9"
    return Subject(load_settings({}, cwd=tmp_path), nowhere, nowhere, ())


@pytest.fixture
def never() -> Iterator[threading.Event]:
    """Set only when the test is over."""
    event = threading.Event()
    yield event
    event.set()


def outcome(check_look: object, subject: Subject, timeout_s: float = 5) -> Outcome:
    return Run(Check("mine", "a thing", timeout_s, check_look), subject).outcome()  # type: ignore[arg-type]


def test_names_are_unique_and_every_check_has_a_bounded_time() -> None:
    assert len(set(NAMES)) == len(CHECKS)
    assert all(0 < check.timeout_s <= BOUND_S <= 30 for check in CHECKS)


def test_what_a_check_finds_is_kept_in_its_order(subject: Subject) -> None:
    found = outcome(lambda _: [ok("a"), skipped("b")], subject)

    assert [finding.seen for finding in found.findings] == ["a", "b"]
    assert found.status is Status.OK


def test_a_check_that_never_ends_fails_in_its_time_and_keeps_what_it_found(
    subject: Subject, never: threading.Event
) -> None:
    def look(_: Subject) -> Iterator[Finding]:
        yield ok("first")
        never.wait()

    started = time.monotonic()
    found = outcome(look, subject, timeout_s=0.2)

    assert time.monotonic() - started < 5
    assert [finding.status for finding in found.findings] == [Status.OK, Status.FAILED]
    assert "no end after 0.2 s" in found.findings[1].seen


def test_a_check_without_redis_is_skipped(subject: Subject) -> None:
    def look(_: Subject) -> Iterator[Finding]:
        yield ok("first")
        raise TimeoutError

    assert [f.status for f in outcome(look, subject).findings] == [Status.OK, Status.SKIPPED]


def test_a_check_that_breaks_is_a_finding_without_the_errors_text(subject: Subject) -> None:
    def look(_: Subject) -> Iterator[Finding]:
        raise KeyError("a secret")

    (finding,) = outcome(look, subject).findings
    assert finding.status is Status.FAILED
    assert "KeyError at test_doctor.py" in finding.seen
    assert "secret" not in finding.seen


def test_a_slow_look_holds_up_no_other(never: threading.Event) -> None:
    def slow() -> Iterator[Finding]:
        never.wait()
        yield ok("slow")

    def broken() -> Iterator[Finding]:
        raise ValueError

    found = together([slow, lambda: [ok("quick")], broken])
    first_two = {next(found).status, next(found).status}
    never.set()

    assert first_two == {Status.OK, Status.FAILED}
    assert [finding.seen for finding in found] == ["slow"]


def test_nothing_to_look_at_together_is_nothing() -> None:
    assert list(together([])) == []


class Network(HttpClient):
    """Every call ends so."""

    def __init__(self, error: TaskError) -> None:
        self._error = error

    def send(self, request: HttpRequest, deadline: Deadline) -> HttpResponse:
        raise self._error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (NotSentError("http:connect"), "nobody answers"),
        (DeadlineError("deadline:total"), "nobody answers"),  # a firewall swallows what is sent
        (PermanentError("http:request"), "nobody answers"),
        (OutcomeUnknownError("http:cut"), "takes connections and does not answer"),
    ],
)
def test_an_ingress_takes_a_connection_when_a_request_went_out(
    error: TaskError, words: str, subject: Subject
) -> None:
    (finding,) = ingress.look(replace(subject, http=Network(error)))

    assert words in finding.seen


def test_the_worst_finding_speaks_for_all() -> None:
    fine, odd, bad = ok("a"), warning("b", "means", "cure"), failed("c", "means", "cure")

    assert worst((skipped("x"), fine)) is Status.OK
    assert worst((fine, odd)) is Status.WARNING
    assert worst((bad, odd, fine)) is Status.FAILED
    assert worst((skipped("x"),)) is worst(()) is Status.SKIPPED


@pytest.mark.parametrize(
    ("environ", "shown"),
    [
        ({"CLAWDBOT_REDIS__URL": "rediss://user:secret@r.example/3"}, "r.example:6379"),
        ({"CLAWDBOT_REDIS__URL": "unix:///run/redis.sock?password=secret"}, "/run/redis.sock"),
        (
            {
                "CLAWDBOT_REDIS__URL": "sentinel://:secret@s1:26379;sentinel://s2:26379",
                "CLAWDBOT_REDIS__MASTER_NAME": "mymaster",
            },
            "mymaster of the sentinels s1:26379, s2:26379",
        ),
    ],
)
def test_redis_is_named_without_its_password(
    environ: dict[str, str], shown: str, tmp_path: Path
) -> None:
    assert address_of(load_settings(environ, cwd=tmp_path).redis) == shown


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:18789"),
        ("::", "http://[::1]:18789"),
        ("10.0.0.7", "http://10.0.0.7:18789"),
    ],
)
def test_an_ingress_of_these_settings_is_looked_for_here(
    host: str, url: str, tmp_path: Path
) -> None:
    assert local_url(load_settings({"CLAWDBOT_HOST": host}, cwd=tmp_path)) == url
