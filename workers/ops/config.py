"""`clawdbot config …`: which settings are in force and why, and changing them while all runs."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from shared import audit
from shared.config.known import dotted_path
from shared.config.live import is_live
from shared.config.schema import yaml_schema
from shared.config.shown import DEFAULT, Shown, shown
from shared.errors import ConfigError
from workers.ops.config_desk import Desk, look_around, not_read, tell_faults
from workers.ops.context import operator, show_json
from workers.ops.habits import json_option


@click.group()
def config() -> None:
    """Show, check or describe the settings; change some of them without a restart.

    NAME is a setting's name as YAML nests it: model.system_prompt, bots.sales.model_chain.

    Example: clawdbot config show
    """


@config.command()
@click.option("--all", "every", is_flag=True, help="Defaults, too.")
@json_option
def show(every: bool, as_json: bool) -> None:
    """The values in force, secrets hidden, and where each was written.

    Example: clawdbot config show --all
    """
    follower = look_around()
    rows = [row for row in shown(follower.loaded) if every or row.source != DEFAULT]
    if as_json:
        show_json([asdict(row) for row in rows])
    else:
        for row in rows:
            click.echo(_line(row))
    tell_faults(follower)


@config.command()
@json_option
def check(as_json: bool) -> None:
    """Every problem at once, and what should not stay so. Exit code 2 when there is a problem.

    Example: clawdbot config check --json
    """
    try:
        follower = look_around()
    except ConfigError as error:
        problems, warnings = error.problems, list[str]()
    else:
        problems = [problem for each in follower.refused.values() for problem in each]
        warnings = [*follower.loaded.settings.warnings(), *not_read(follower)]
    if as_json:
        show_json({"problems": problems, "warnings": warnings})
    else:
        for problem in problems:
            click.echo(f"problem: {problem}")
        for warning in warnings:
            click.echo(f"warning: {warning}")
        if not problems:
            click.echo("the settings can be used")
    if problems:
        raise SystemExit(2)


@config.command()
@click.option("--json", is_flag=True, expose_value=False, help="It is JSON anyway.")
def schema() -> None:
    """A JSON Schema of the YAML file, for editors.

    Saved beside the YAML file as clawdbot.schema.json, it counts when that file begins with
    "# yaml-language-server: $schema=clawdbot.schema.json".

    Example: clawdbot config schema
    """
    click.echo(json.dumps(yaml_schema(), ensure_ascii=False, indent=2))


@config.command("set")
@click.argument("name")
@click.argument("value")
@json_option
def set_value(name: str, value: str, as_json: bool) -> None:
    """Set NAME in the configuration centre, for all processes.

    The whole is checked first. A list is separated by commas, or JSON. An empty VALUE empties a
    setting that may be empty.

    Example: clawdbot config set quotas.user.requests_per_day 200
    """
    with operator() as op:
        Desk(op.client).set(name, value)
        _record(name, "set")
    _tell(name, "set", as_json)


@config.command()
@click.argument("name")
@json_option
def unset(name: str, as_json: bool) -> None:
    """Take NAME out of the configuration centre: what is written elsewhere holds again.

    Example: clawdbot config unset quotas.user.requests_per_day
    """
    with operator() as op:
        Desk(op.client).unset(name)
        _record(name, "unset")
    _tell(name, "unset", as_json)


@config.command("list")
@json_option
def list_values(as_json: bool) -> None:
    """What the configuration centre holds in Redis.

    Example: clawdbot config list
    """
    with operator() as op:
        values = Desk(op.client).values()
    rows = [
        {"name": name, "value": value, "live": is_live(dotted_path(name))}
        for name, value in sorted(values.items())
    ]
    if as_json:
        show_json(rows)
        return
    for row in rows:
        click.echo(f"{row['name']}: {_text(row['value'])}  ({_when(bool(row['live']))})")
    if not rows:
        click.echo("nothing is set in the configuration centre")


def _record(name: str, what: str) -> None:
    """Without the value: a prompt is long, and nobody's business but the centre's."""
    audit.record("config.changed", setting=".".join(dotted_path(name)), done=what)


def _tell(name: str, what: str, as_json: bool) -> None:
    path = dotted_path(name)
    plain, live = ".".join(path), is_live(path)
    if as_json:
        show_json({"name": plain, "done": what, "live": live})
    else:
        click.echo(f"{plain} is {what}: {_when(live)}")


def _when(live: bool) -> str:
    if live:
        return "live, in force within seconds"
    return "in force after a restart of ingress and workers"


def _line(row: Shown) -> str:
    return f"{row.name}: {_text(row.value)}  # {row.source}"


def _text(value: Any) -> str:
    """On one line; text as it is if it has one."""
    if isinstance(value, str) and value and value.isprintable():
        return value
    return json.dumps(value, ensure_ascii=False)
