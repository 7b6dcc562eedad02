"""`clawdbot dead …`: what finally failed, kept until somebody replays or drops it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from shared import audit
from shared.state.keys import BotKeys
from workers.ops.context import Operator, instant, operator, show_json
from workers.ops.habits import confirm, harmless, json_option, progress, yes_option
from workers.ops.way import follow

Letter = tuple[BotKeys, str]  #: whose, and its trace id

EXAMPLE_LIMIT = 50
MOST_NAMED = 20  #: events in an entry of the audit trail
TEXT_REMOVED = "(removed: CLAWDBOT_DEAD_LETTERS__TEXT_DAYS)"


@click.group()
def dead() -> None:
    """List, show, replay or drop dead letters.

    Example: clawdbot dead list
    """


@dead.command("list")
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=EXAMPLE_LIMIT,
    show_default=True,
    help="Newest first.",
)
@json_option
def list_letters(limit: int, as_json: bool) -> None:
    """One line a letter: when it died, in which stage, why.

    Example: clawdbot dead list --limit 10
    """
    with operator() as op, progress(_newest(op, limit), "reading") as shown:
        letters = [_summary(op, bot, name) for bot, name in shown]
    if as_json:
        show_json(letters)
        return
    for letter in letters:
        died = instant(letter["dead_ms"])
        click.echo(f"{letter['trace_id']}  {died}  {letter['stage']}  {letter['reason']}")
    if not letters:
        click.echo("no dead letters")


@dead.command()
@click.argument("event")
@json_option
def show(event: str, as_json: bool) -> None:
    """One letter whole: the message, the reason, the history of its attempts.

    Example: clawdbot dead show 3f2a9c0b1d4e5f60718293a4
    """
    with operator() as op:
        bot, trace_id = op.must_find(event)
        letter = _summary(op, bot, trace_id)
        way = follow(op, bot, trace_id)
    if way["fate"] != "dead":
        raise click.ClickException(f"{event} is not dead but {way['fate']}")
    if as_json:
        show_json({**letter, "steps": way["steps"]})
        return
    for name, value in letter.items():
        click.echo(f"{name}: {harmless(value)}")
    for step in way["steps"]:
        click.echo(f"  {instant(step['ms'])}  {step['what']}")


@dead.command()
@click.argument("events", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Every dead letter of every bot.")
@json_option
def replay(events: tuple[str, ...], every: bool, as_json: bool) -> None:
    """Put letters at the tail of their conversations again.

    Exit code 1 when one of them is not dead (any more).

    Example: clawdbot dead replay 3f2a9c0b1d4e5f60718293a4
    """
    with operator() as op:
        chosen = _chosen(op, events, every)
        with _recorded("dead_letters.replayed") as replayed:
            textless = _replay(op, chosen, replayed)
    _tell("replayed", replayed, chosen, as_json, textless=textless)


@dead.command()
@click.argument("events", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Every dead letter of every bot.")
@yes_option
@json_option
def drop(events: tuple[str, ...], every: bool, yes: bool, as_json: bool) -> None:
    """Forget letters for good.

    Exit code 1 when one of them is not dead (any more).

    Example: clawdbot dead drop --yes 3f2a9c0b1d4e5f60718293a4
    """
    with operator() as op:
        chosen = _chosen(op, events, every)
        confirm(f"forget {len(chosen)} dead letters for good?", yes)
        with _recorded("dead_letters.dropped") as dropped:
            _drop(op, chosen, dropped)
    _tell("dropped", dropped, chosen, as_json)


@contextmanager
def _recorded(action: str) -> Iterator[list[str]]:
    """A list for the trace ids of what is done: one entry for all, also if it is interrupted."""
    done: list[str] = []
    try:
        yield done
    finally:
        if done:
            audit.record(action, letters=len(done), events=done[:MOST_NAMED])


def _replay(op: Operator, letters: list[Letter], replayed: list[str]) -> list[str]:
    """Fills `replayed`. Returns the trace ids of those whose text was removed."""
    by_answer: dict[str, list[str]] = {"ok": replayed, "no_text": [], "not_dead": []}
    with progress(letters, "replaying") as shown:
        for bot, name in shown:
            by_answer[op.lanes.replay(bot, name)].append(name)
    return by_answer["no_text"]


def _drop(op: Operator, letters: list[Letter], dropped: list[str]) -> None:
    """Fills `dropped`."""
    with progress(letters, "dropping") as shown:
        for bot, name in shown:
            if op.lanes.drop(bot, [name]):
                dropped.append(name)


def _tell(
    done: str,
    names: list[str],
    chosen: list[Letter],
    as_json: bool,
    *,
    textless: Sequence[str] | None = None,
) -> None:
    """textless: of a replay, those that can't run again."""
    found = {*names, *(textless or ())}
    others = [name for _, name in chosen if name not in found]
    if as_json:
        without_text = {} if textless is None else {"without_text": textless}
        show_json({done: names, "not_dead": others, **without_text})
    else:
        click.echo(f"{done} {len(names)} of {len(chosen)}")
    if textless:
        raise click.ClickException(
            "the text of some was removed (CLAWDBOT_DEAD_LETTERS__TEXT_DAYS): they can't run "
            "again, only be dropped"
        )
    if others:
        raise click.ClickException("the others are not dead (any more)")


def _chosen(op: Operator, events: tuple[str, ...], every: bool) -> list[Letter]:
    if bool(events) == every:
        raise click.UsageError("name events, or give --all")
    if every:
        return [(bot, name) for bot in op.bots for name in op.client.zrange(bot.dead, 0, -1)]
    return list(dict.fromkeys(op.must_find(name) for name in events))


def _newest(op: Operator, limit: int) -> list[Letter]:
    dated = [
        (died, bot, name)
        for bot in op.bots
        for name, died in op.client.zrange(bot.dead, 0, limit - 1, desc=True, withscores=True)
    ]
    dated.sort(key=lambda letter: letter[0], reverse=True)
    return [(bot, name) for _, bot, name in dated[:limit]]


def _summary(op: Operator, bot: BotKeys, trace_id: str) -> dict[str, Any]:
    key = bot.event(trace_id)
    record = op.client.hgetall(key) if op.client.type(key) == "hash" else {}
    event = json.loads(record.get("event", "{}"))
    return {
        "trace_id": trace_id,
        "bot": bot.prefix,
        "dead_ms": int(record.get("dead", 0)),
        "stage": record.get("dead_stage", ""),
        "reason": record.get("dead_reason", ""),
        "message_id": event.get("message_id", ""),
        "conversation_id": event.get("conversation_id", ""),
        "sender": event.get("sender_name") or event.get("sender_id", ""),
        "text": TEXT_REMOVED if "textless" in record else event.get("text", ""),
    }
