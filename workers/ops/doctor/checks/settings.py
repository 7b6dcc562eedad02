"""The settings' warnings. Their faults are told before any check runs: nothing works then."""

from __future__ import annotations

from collections.abc import Iterator

from workers.ops.doctor.finding import Finding, ok, warning
from workers.ops.doctor.subject import Subject


def look(subject: Subject) -> Iterator[Finding]:
    """One finding a warning."""
    settings = subject.settings
    for fault in subject.unknown:
        yield warning(
            fault,
            "All checks look with the other settings: what the gateway runs with may differ. No "
            "program starts with a value that can't be used.",
            "correct it, or see the check redis",
            "clawdbot config check",
        )
    for line in settings.warnings():
        yield warning(
            line,
            "The gateway runs with it; what the line names is missing or weaker than it should be.",
            "change that setting and restart ingress and workers, or leave it knowingly",
        )
    bots, models = len(settings.all_bots()), len(settings.all_models())
    yield ok(f"they load: bots {bots}, models {models}")
