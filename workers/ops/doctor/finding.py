"""What a check says: what it saw and, unless all is well, what that means and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """Of several findings the last one of this order speaks for all."""

    SKIPPED = "skipped"  #: it could not be looked at, or is not there to be looked at
    OK = "ok"
    WARNING = "warning"  #: it works, and should not stay so
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. Never holds a secret.

    fix: commands and settings that cure it, to be copied.
    """

    status: Status
    seen: str
    means: str = ""
    cure: str = ""
    fix: tuple[str, ...] = ()


def ok(seen: str) -> Finding:
    return Finding(Status.OK, seen)


def skipped(seen: str, cure: str = "") -> Finding:
    return Finding(Status.SKIPPED, seen, cure=cure)


def warning(seen: str, means: str, cure: str, *fix: str) -> Finding:
    return Finding(Status.WARNING, seen, means, cure, fix)


def failed(seen: str, means: str, cure: str, *fix: str) -> Finding:
    return Finding(Status.FAILED, seen, means, cure, fix)


def worst(findings: tuple[Finding, ...]) -> Status:
    """The status of them all together; skipped when there is none."""
    order = list(Status)
    return max((finding.status for finding in findings), key=order.index, default=Status.SKIPPED)
