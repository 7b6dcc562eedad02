"""A report for people: plain text, a line a fact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from workers.audit.report import Report


def as_text(report: Report) -> str:
    """The whole report; ends with a line end."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    yield f"Audit report, {report.first_day} to {report.last_day}"
    yield ""
    yield f"refused calls: {report.refused}"
    if report.refused:
        for title, counts in (
            ("by reason", report.by_reason),
            ("by platform", report.by_platform),
            ("by bot", report.by_bot),
            ("by day", report.by_day),
            ("by address", report.addresses),
        ):
            yield from _table(title, counts)
    yield ""
    yield f"operators' actions: {sum(report.actions.values())}"
    yield from _table("by action", report.actions)
    yield from (f"  {_told(action)}" for action in report.latest)
    yield ""
    yield f"keys past or near their end: {len(report.keys)}"
    yield from (f"  {_key(key)}" for key in report.keys)
    yield f"dead letters now: {sum(report.dead_letters.values())}"
    yield from _table("by bot", report.dead_letters)


def _table(title: str, counts: Mapping[str, int]) -> Iterator[str]:
    if counts:
        yield f"  {title}"
        yield from (f"    {count:>9}  {name}" for name, count in counts.items())


def _told(action: Mapping[str, Any]) -> str:
    facts = " ".join(f"{name}={value}" for name, value in action["facts"].items())
    return (
        f"{action['at']}  {action['user']}@{action['host']}  {action['action']}  {facts}".rstrip()
    )


def _key(key: Mapping[str, Any]) -> str:
    when = f"ends in {key['days']} days" if key["days"] >= 0 else f"ended {-key['days']} days ago"
    return f"{key['model']}  {key['key']}  {key['state']}  {when}"
