"""`clawdbot metrics`: where Prometheus finds the workers' metrics."""

from __future__ import annotations

import json
from typing import Any

import click

from shared.state import keys
from workers.ops.context import Operator, operator, show_json

SEEN_MS = 15_000  #: a worker tells of itself every second


@click.command()
@click.option(
    "--json", "as_json", is_flag=True, help="As a file of targets for Prometheus (file_sd)."
)
def metrics(as_json: bool) -> None:
    """The live workers, and the address of each one's /metrics.

    Exit code 1 when one of them shows none.

    Example: clawdbot metrics --json
    """
    with operator() as op:
        workers = live_workers(op)
    if as_json:
        show_json([_target(name, facts) for name, facts in workers.items() if _address(facts)])
    else:
        _show(workers)
    if not all(_address(facts) for facts in workers.values()):
        raise SystemExit(1)


def live_workers(op: Operator) -> dict[str, dict[str, Any]]:
    """What each worker that was seen of late told of itself, by name."""
    seconds, micros = op.client.time()
    now_ms = seconds * 1000 + micros // 1000
    told = {name: json.loads(text) for name, text in op.client.hgetall(keys.WORKERS).items()}
    return {
        name: facts for name, facts in sorted(told.items()) if now_ms - facts["seen_ms"] <= SEEN_MS
    }


def _address(facts: dict[str, Any]) -> str:
    return str(facts.get("metrics", ""))  # a worker of an earlier release tells of none


def _target(name: str, facts: dict[str, Any]) -> dict[str, Any]:
    return {"targets": [_address(facts)], "labels": {"worker": name}}


def _show(workers: dict[str, dict[str, Any]]) -> None:
    if not workers:
        click.echo("no worker lives")
    for name, facts in workers.items():
        address = _address(facts)
        shown = f"http://{address}/metrics" if address else "none: see metrics.* in its log"
        click.echo(f"{name}  {facts['pool']}  {shown}")
