"""`clawdbot audit report`: who was refused, and what operators did."""

from __future__ import annotations

import re
from dataclasses import asdict
from zoneinfo import ZoneInfo

import click

from shared.local_time import local_day
from shared.state.keys import REFUSED_DAYS
from workers.audit.render import as_text
from workers.audit.report import Report, Reporter
from workers.ops.context import Operator, operator, show_json
from workers.ops.habits import json_option

_SPAN = re.compile(r"(\d{1,3})([dw])")
_DAYS = {"d": 1, "w": 7}


def _days_in(_: click.Context, __: click.Parameter, span: str) -> int:
    """`7d` or `2w` as days."""
    found = _SPAN.fullmatch(span)
    days = int(found[1]) * _DAYS[found[2]] if found else 0
    if not 1 <= days <= REFUSED_DAYS:
        raise click.BadParameter(f"{span}: expected 1d to {REFUSED_DAYS}d, or weeks as 2w")
    return days


@click.group()
def audit() -> None:
    """Look at the audit trail: who was refused, what operators did.

    Example: clawdbot audit report
    """


@audit.command()
@click.option(
    "--since",
    "days",
    default="7d",
    show_default=True,
    callback=_days_in,
    help="How many days, today included.",
)
@json_option
def report(days: int, as_json: bool) -> None:
    """Refused calls, operators' actions, keys near their end, dead letters.

    Days begin at midnight of CLAWDBOT_TIMEZONE.

    Example: clawdbot audit report --since 7d
    """
    with operator() as op:
        made = _make(op, days)
    if as_json:
        show_json(asdict(made))
    else:
        click.echo(as_text(made), nl=False)


def _make(op: Operator, days: int) -> Report:
    seconds, _ = op.client.time()
    today = local_day(ZoneInfo(op.settings.timezone), seconds * 1000)
    return Reporter.of(op.settings, op.client).report(today - days + 1, today, seconds * 1000)
