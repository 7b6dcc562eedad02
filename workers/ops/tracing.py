"""`clawdbot trace ID`: the stages of one event with their times."""

from __future__ import annotations

from typing import Any

import click

from shared.state.keys import BotKeys
from workers.ops.context import Operator, instant, operator, show_json

#: The fates that leave no record; of each, the first letter is kept.
ENDINGS = ("answered", "rejected", "cancelled", "dropped")


@click.command()
@click.argument("event")
@click.option("--json", "as_json", is_flag=True, help="For other programs.")
def trace(event: str, as_json: bool) -> None:
    """The way of one event: EVENT is a trace id, or the platform's message id.

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


def follow(op: Operator, bot: BotKeys, trace_id: str) -> dict[str, Any]:
    """Fate and steps (oldest first) of an event that exists."""
    key = bot.event(trace_id)
    if op.client.type(key) == "string":
        fate, steps = _finished(op.client.get(key) or "")
    else:
        fate, steps = _unfinished(op.client.hgetall(key))
    steps.sort(key=lambda step: step["ms"])
    return {"bot": bot.prefix, "trace_id": trace_id, "fate": fate, "steps": steps}


def _finished(line: str) -> tuple[str, list[dict[str, Any]]]:
    letter, accepted, written, ended, process_tries, push_tries, _ = line.split(" ")
    fate = next(name for name in ENDINGS if name.startswith(letter))
    start = int(accepted)
    steps = [_step(start, "accepted")]
    if written != "-":
        steps.append(_step(start + int(written), f"reply written (attempts: {process_tries})"))
    steps.append(_step(start + int(ended), f"{fate} (attempts to push: {push_tries})"))
    return fate, steps


def _unfinished(record: dict[str, str]) -> tuple[str, list[dict[str, Any]]]:
    steps = [_step(int(record["accepted"]), "accepted")]
    if "claimed" in record:
        steps.append(_step(int(record["claimed"]), "first claimed for processing"))
    if "told" in record:
        steps.append(_step(int(record["told"]), "told that it takes longer"))
    if "written" in record:
        attempts = record.get("process_tries", "0")
        steps.append(_step(int(record["written"]), f"reply written (attempts: {attempts})"))
    for entry in record.get("log", "").splitlines():
        ms, stage, attempt, text = entry.split("\t", 3)
        steps.append(_step(int(ms), f"{stage}, attempt {attempt}: {text}"))
    if "dead" in record:
        return "dead", [*steps, _step(int(record["dead"]), f"dead: {record['dead_reason']}")]
    if "fate" in record:
        return f"{record['fate']}, its notice waiting for push", steps
    return ("waiting for push" if "written" in record else "waiting for the model"), steps


def _step(ms: int, what: str) -> dict[str, Any]:
    return {"ms": ms, "what": what}
