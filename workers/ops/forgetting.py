"""`clawdbot forget`: a person is erased."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import click

from shared import audit
from workers.forgetting import Person, Seen, Traces
from workers.ops.context import operator, show_json
from workers.ops.habits import confirm, json_option, yes_option

GROUPS_LEFT = (
    "Histories of groups don't say who wrote what, so they were left as they are: repeat with "
    "--groups to forget these groups' histories as a whole."
)


@click.command()
@click.option("--user", "person_id", required=True, help="The platform's id of the person.")
@click.option("--bot", default="", help="platform:app_id; every bot without it.")
@click.option("--groups", is_flag=True, help="Forget the groups' histories they wrote in, too.")
@yes_option
@json_option
def forget(person_id: str, bot: str, groups: bool, yes: bool, as_json: bool) -> None:
    """Erase a person: messages that wait, dead letters, remembered conversations, use, quotas.

    The id is the sender's, as `clawdbot usage --by user` shows it (DingTalk senderId, Feishu
    open_id). Messages that wait end as cancelled. What was used stays in the sums, nameless. Logs
    that were written with LOG_CONTENT, and backups of Redis, are not touched.

    Example: clawdbot forget --user ou_84aad35d084aa403a838cf73ee18467 --yes
    """
    if not person_id.strip():
        raise click.BadParameter("it is empty", param_hint="--user")
    with operator() as op:
        people = {
            keys.prefix: Person(op.client, op.lanes, keys, person_id) for keys in op.chosen(bot)
        }
        if not yes and sys.stdin.isatty():
            _show(people)
        confirm("erase all of it, groups' histories too?" if groups else "erase it?", yes)
        erased = {name: _erase(person, name, groups) for name, person in people.items()}
    if as_json:
        show_json({name: asdict(traces) for name, traces in erased.items()})
        return
    for name, traces in erased.items():
        click.echo(f"{name}: {_told(traces)}")
    if not groups and any(traces.groups for traces in erased.values()):
        click.echo(GROUPS_LEFT)


def _erase(person: Person, bot: str, groups: bool) -> Traces:
    facts: dict[str, Any] = {"complete": False}
    try:
        traces = _watched(person, "erasing", lambda seen: person.erase(seen, with_groups=groups))
        facts = {"complete": True, **asdict(traces)}
        return traces
    finally:  # also if it is interrupted: some of it is gone then
        audit.record("person.forgotten", person=person.alias, bot=bot, with_groups=groups, **facts)


def _watched(person: Person, what: str, work: Callable[[Seen], Traces]) -> Traces:
    """Show how far `work` is, on a terminal."""
    length = person.to_look_through()
    with click.progressbar(
        length=length, label=what, file=sys.stderr, hidden=not sys.stderr.isatty()
    ) as bar:
        return work(bar.update)


def _show(people: dict[str, Person]) -> None:
    """What would be erased."""
    for name, person in people.items():
        traces = _watched(person, "looking", person.traces)
        click.echo(f"{name}: {_told(traces)}", err=True)


def _told(traces: Traces) -> str:
    return (
        f"{traces.unfinished} waiting messages, {traces.letters} dead letters, "
        f"{traces.private} conversations of two, {traces.groups} groups with a history, "
        f"use of {traces.usage_days} days, {traces.quotas} quotas"
    )
