"""How `clawdbot keys` shows keys: fingerprints, states and dates, never a secret."""

from __future__ import annotations

from typing import Any

import click

from shared.state.key_ring import Entry
from workers.keys.sources import own_pairs
from workers.ops.context import instant
from workers.ops.key_desk import Desk

Row = dict[str, Any]


def rows_of(desk: Desk) -> list[Row]:
    """The ring's keys in the order of trying, the archived ones, those of the settings."""
    snapshot = desk.store.read()
    ring = snapshot.ring
    archived = [entry for entry in ring.entries if entry.state == "archived"]
    rows = [_ring_row(desk, entry) for entry in (*ring.live, *archived)]
    for pair in own_pairs(desk.model):
        if pair.secret:
            note = _note_of(ring.find(pair.id))
            rows.append({"id": pair.id, "state": "settings", "ak_id": pair.ak_id, "note": note})
    for row in rows:
        if row["id"] in snapshot.refused and not row["note"]:
            row["note"] = "refused of late: tried last"
    return rows


def row_of(entry: Entry) -> Row:
    """One key of the ring, as far as it shows without its pair."""
    return {
        "id": entry.id,
        "state": entry.state,
        "created": instant(entry.created_ms),
        "until": "" if entry.state == "archived" else instant(entry.ends_ms),
        "note": "",
    }


def show_row(row: Row) -> None:
    """A line for people."""
    until = f"until {row['until'][:10]}" if row.get("until") else ""
    parts = (row["id"], f"{row['state']:<8}", row.get("ak_id", ""), until, row["note"])
    click.echo("  ".join(part for part in parts if part).rstrip())


def _note_of(entry: Entry | None) -> str:
    """On a key of the settings, that the ring has as `entry`."""
    if entry is None:
        return ""
    if entry.state == "archived":
        return "archived: used only when no other is left"
    return f"in the ring: {entry.state}"


def _ring_row(desk: Desk, entry: Entry) -> Row:
    row = row_of(entry) | {"ak_id": ""}
    if entry.sealed and (pair := desk.store.open(entry.sealed)) is not None:
        row["ak_id"] = pair.ak_id
    elif entry.sealed:
        row["note"] = "sealed with a master key that is not listed"
    return row
