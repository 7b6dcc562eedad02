"""`clawdbot queue`: what is in flight, and whether every event is accounted for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from shared.envelope import QUEUES
from shared.state import keys
from shared.state.census import FATES, LANES_PER_CALL, Census
from shared.state.scripts import script
from workers.ops.context import Operator, operator, show_json
from workers.ops.habits import json_option, progress


@click.command()
@json_option
def queue(as_json: bool) -> None:
    """Lanes, events in flight (counted by walking), the oldest one, the conservation equation.

    Exit code 1 when an event is unaccounted for. Many lanes (above 5000) are not counted in one
    instant; nothing is said of the equation then.

    Example: clawdbot queue
    """
    with operator() as op:
        report = survey(op)
    if as_json:
        show_json(report)
    else:
        _show(report)
    if any(bot["imbalance"] for bot in report["bots"].values()):
        raise SystemExit(1)


def survey(op: Operator) -> dict[str, Any]:
    """The whole report."""
    censuses = take_census(op)
    return {
        "hints": {name: op.client.llen(name) for name in QUEUES},
        "oldest_s": _oldest_s(op, list(censuses.values())),
        "bots": {
            bot: {**asdict(census), "in_flight": census.in_flight, "imbalance": census.imbalance}
            for bot, census in censuses.items()
        },
    }


def take_census(op: Operator) -> dict[str, Census]:
    """Walk all lanes, `LANES_PER_CALL` at a time."""
    walk = op.client.register_script(script("walk"))
    names = [keys.DUE, *(bot.counts for bot in op.bots)]
    censuses = {bot.prefix: Census() for bot in op.bots}
    with progress(range(0, op.client.zcard(keys.DUE) + 1, LANES_PER_CALL), "walking") as firsts:
        for first in firsts:
            answer = walk(keys=names, args=[first, first + LANES_PER_CALL - 1])
            for census, walked, counters in zip(censuses.values(), *answer, strict=True):
                census.add(walked, counters)
    return censuses


def _oldest_s(op: Operator, censuses: Sequence[Census]) -> float:
    """Age of the oldest unfinished event."""
    accepted = [c.oldest_inbox_ms for c in censuses] + [c.oldest_outbox_ms for c in censuses]
    known = [ms for ms in accepted if ms]
    seconds, _ = op.client.time()
    return round(max(0.0, seconds - min(known) / 1000), 1) if known else 0.0


def _show(report: dict[str, Any]) -> None:
    waiting = ", ".join(f"{name} {count}" for name, count in report["hints"].items())
    click.echo(f"hints waiting: {waiting}; oldest unfinished event: {report['oldest_s']} s")
    for bot, facts in report["bots"].items():
        counts = facts["counts"]
        click.echo(f"\n{bot}")
        click.echo(f"  to process {facts['to_process']} in {facts['inbox_lanes']} lanes")
        click.echo(f"  to push    {facts['to_push']} in {facts['outbox_lanes']} lanes")
        click.echo(f"  notices    {facts['notices']}")
        sums = " + ".join(f"{fate} {counts.get(fate, 0)}" for fate in FATES)
        verdict = _verdict(facts["imbalance"])
        accepted = counts.get("accepted", 0)
        click.echo(f"  accepted {accepted} = {sums} + in flight {facts['in_flight']}: {verdict}")


def _verdict(imbalance: int | None) -> str:
    if imbalance is None:
        return f"not told, above {LANES_PER_CALL} lanes they are not counted in one instant"
    return f"BROKEN by {imbalance}" if imbalance else "holds"
