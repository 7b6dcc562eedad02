"""`clawdbot conversation …`: what is remembered of one, and forgetting it."""

from __future__ import annotations

from typing import Any

import click

from shared import audit
from shared.state.keys import LaneKeys
from workers.conversation import read
from workers.ops.context import Operator, operator, show_json
from workers.ops.habits import confirm, harmless, json_option, yes_option

_BOT = click.option("--bot", default="", help="platform:app_id, where several bots know it.")


@click.group()
def conversation() -> None:
    """Look at what the model is reminded of in a conversation, or forget it.

    Example: clawdbot conversation show oc_5ad11d72b830411d72b836c20
    """


@conversation.command()
@click.argument("conversation_id")
@_BOT
@click.option("--text", "with_text", is_flag=True, help="Show what was said, too.")
@json_option
def show(conversation_id: str, bot: str, with_text: bool, as_json: bool) -> None:
    """How many turns are remembered, how much memory they take, for how long.

    Example: clawdbot conversation show oc_5ad11d72b830411d72b836c20
    """
    with operator() as op:
        facts = _facts(op, _find(op, conversation_id, bot), with_text=with_text)
    if as_json:
        show_json(facts)
        return
    for name, value in facts.items():
        if name != "messages":
            click.echo(f"{name}: {value}")
    for message in facts.get("messages", ()):
        click.echo(f"  {message['role']}: {harmless(message['content'])}")


@conversation.command()
@click.argument("conversation_id")
@_BOT
@yes_option
@json_option
def forget(conversation_id: str, bot: str, yes: bool, as_json: bool) -> None:
    """Forget what was said: the next message begins a new conversation.

    Messages that wait are still answered, without knowing what was said before.

    Example: clawdbot conversation forget --yes oc_5ad11d72b830411d72b836c20
    """
    with operator() as op:
        lane = _find(op, conversation_id, bot)
        confirm(f"forget what was said in {conversation_id}?", yes)
        entries = op.lanes.forget(lane)
        audit.record("conversation.forgotten", conversation=lane.conversation, entries=entries)
    if as_json:
        show_json({"conversation": lane.conversation, "forgotten_entries": entries})
    else:
        click.echo(f"forgot {entries} entries of {lane.conversation}")


def _find(op: Operator, conversation_id: str, bot: str) -> LaneKeys:
    """The inbox of a conversation that some bot remembers, or has work of."""
    lanes = [LaneKeys(keys.inbox(conversation_id)) for keys in op.chosen(bot)]
    found = [lane for lane in lanes if op.client.exists(lane.history, lane.lane)]
    if not found:
        raise click.ClickException(f"{conversation_id}: nothing is remembered of it")
    if len(found) > 1:
        names = ", ".join(lane.bot.prefix for lane in found)
        raise click.UsageError(f"several bots know {conversation_id}: give --bot, one of {names}")
    return found[0]


def _facts(op: Operator, lane: LaneKeys, *, with_text: bool) -> dict[str, Any]:
    entries = op.client.lrange(lane.history, 0, -1)
    facts: dict[str, Any] = {
        "conversation": lane.conversation,
        "turns": len(entries) // 2,
        "bytes": sum(len(entry.encode()) for entry in entries),
        "memory_bytes": op.client.memory_usage(lane.history) or 0,
        "expires_in_s": max(0, op.client.ttl(lane.history)),
        "waiting": op.client.llen(lane.lane),
    }
    if with_text:
        facts["messages"] = [read(entry) for entry in entries]
    return facts
