"""`clawdbot trace ID`: the stages of one event with their times."""

from __future__ import annotations

import click

from workers.ops.context import instant, operator, show_json
from workers.ops.habits import json_option
from workers.ops.way import follow


@click.command()
@click.argument("event")
@json_option
def trace(event: str, as_json: bool) -> None:
    """The way of one event, with times, attempts, workers, routes and codes of failures.

    EVENT is a trace id (also as the model was told it, unless the caller brought a traceparent), or
    the platform's message id. Of a finished event's failures the last one is kept, for 24 h.

    Example: clawdbot trace 3f2a9c0b1d4e5f60718293a4
    """
    with operator() as op:
        bot, trace_id = op.must_find(event)
        way = follow(op, bot, trace_id)
    if as_json:
        show_json(way)
        return
    click.echo(f"{way['bot']}  {way['trace_id']}  {way['fate']}")
    for step in way["steps"]:
        click.echo(f"  {instant(step['ms'])}  {step['what']}")
    if way["now"]:
        click.echo(f"  now: {way['now']}")
