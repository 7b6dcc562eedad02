"""The report: for people as it comes, for programs as one JSON object."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import click

from workers.ops.doctor.check import Outcome
from workers.ops.doctor.finding import Finding, Status, worst

#: In the order of the last line.
COLOURS = {
    Status.OK: "green",
    Status.WARNING: "yellow",
    Status.FAILED: "red",
    Status.SKIPPED: "bright_black",
}
_NAME_WIDTH = 12
_INDENT = " " * (len("skipped") + 2 + _NAME_WIDTH + 1)


def show(outcome: Outcome, *, with_fixes: bool) -> None:
    """The lines of one check."""
    for finding in outcome.findings:
        status = click.style(f"{finding.status:<7}", fg=COLOURS[finding.status])
        click.echo(f"{status}  {outcome.check.name:<{_NAME_WIDTH}} {finding.seen}")
        for line in _explained(finding, with_fixes=with_fixes):
            click.echo(f"{_INDENT}{line}")


def _explained(finding: Finding, *, with_fixes: bool) -> Iterator[str]:
    if finding.means:
        yield finding.means
    if finding.cure:
        yield f"To do: {finding.cure}."
    if with_fixes:
        yield from (f"    {line}" for line in finding.fix)


def show_sum(outcomes: Sequence[Outcome], took_s: float, *, with_fixes: bool) -> None:
    """The last line."""
    findings = _all(outcomes)
    counts = Counter(finding.status for finding in findings)
    told = ", ".join(f"{counts[status]} {status}" for status in COLOURS)
    more = any(finding.fix for finding in findings) and not with_fixes
    hint = "; --fix-hints adds commands" if more else ""
    click.echo(f"\n{told}, in {took_s:.1f} s{hint}")


def as_dict(outcomes: Sequence[Outcome], took_s: float) -> dict[str, Any]:
    """The whole report."""
    return {
        "status": worst(_all(outcomes)),
        "took_s": round(took_s, 3),
        "checks": [
            {
                "name": outcome.check.name,
                "looks_at": outcome.check.looks_at,
                "status": outcome.status,
                "took_s": round(outcome.took_s, 3),
                "findings": [asdict(finding) for finding in outcome.findings],
            }
            for outcome in outcomes
        ],
    }


def has_failed(outcomes: Sequence[Outcome]) -> bool:
    return worst(_all(outcomes)) is Status.FAILED


def _all(outcomes: Sequence[Outcome]) -> tuple[Finding, ...]:
    return tuple(finding for outcome in outcomes for finding in outcome.findings)
