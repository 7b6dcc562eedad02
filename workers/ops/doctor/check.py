"""A check: its name, what it looks at, how long it may take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread

from redis.exceptions import RedisError

from workers.ops.doctor.finding import Finding, Status, failed, skipped, worst
from workers.ops.doctor.subject import Subject
from workers.retry import describe

Look = Callable[[], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Check:
    """One row of the registry. look: yields what it finds as it finds it."""

    name: str
    looks_at: str
    timeout_s: float
    look: Callable[[Subject], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a check."""

    check: Check
    findings: tuple[Finding, ...]
    took_s: float

    @property
    def status(self) -> Status:
        return worst(self.findings)


class Run:
    """A check that is under way, in a thread that nobody waits for longer than its time."""

    def __init__(self, check: Check, subject: Subject) -> None:
        self._check = check
        self._findings: list[Finding] = []
        self._started = time.monotonic()
        self._took_s = 0.0
        self._thread = Thread(
            target=self._run, args=(subject,), name=f"doctor-{check.name}", daemon=True
        )
        self._thread.start()

    def outcome(self) -> Outcome:
        """What it found, when it is done or its time is over."""
        age_s = time.monotonic() - self._started
        self._thread.join(max(0.0, self._check.timeout_s - age_s))
        is_done = not self._thread.is_alive()
        findings = tuple(self._findings)
        if is_done:
            return Outcome(self._check, findings, self._took_s)
        return Outcome(self._check, (*findings, self._no_end()), self._check.timeout_s)

    def _run(self, subject: Subject) -> None:
        for finding in guarded(lambda: self._check.look(subject)):
            self._findings.append(finding)
        self._took_s = time.monotonic() - self._started

    def _no_end(self) -> Finding:
        return failed(
            f"no end after {self._check.timeout_s:g} s",
            f"What it looks at ({self._check.looks_at}) does not answer, or not in time.",
            "look whether that machine, or the network on the way, is overloaded or stopped",
            f"clawdbot doctor --only {self._check.name}",
        )


def together(looks: Sequence[Look]) -> Iterator[Finding]:
    """What all of them find, as it comes; a slow one holds up no other."""
    found: SimpleQueue[Finding | None] = SimpleQueue()

    def run(look: Look) -> None:
        for finding in guarded(look):
            found.put(finding)
        found.put(None)

    for look in looks:
        Thread(target=run, args=(look,), name="doctor-look", daemon=True).start()
    ended = 0
    while ended < len(looks):
        finding = found.get()
        if finding is None:
            ended += 1
        else:
            yield finding


def guarded(look: Look) -> Iterator[Finding]:
    """What `look` finds. Whatever it raises becomes a finding: no check may end the report."""
    try:
        yield from look()
    except RedisError as error:
        yield skipped(f"Redis does not answer ({type(error).__name__})", "see the check redis")
    except Exception as error:  # a check's own bug must not hide what the others found
        yield failed(
            f"the check itself broke: {describe(error)}",
            "This is a bug in clawdbot; what it looks at may be well.",
            "report it with this line",
        )
