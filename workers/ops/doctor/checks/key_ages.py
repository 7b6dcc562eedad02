"""Until when the models' keys are good."""

from __future__ import annotations

from collections.abc import Iterator

from shared.state.key_ring import DAY_MS, Entry
from workers.keys.ring_store import RingStore, Snapshot
from workers.keys.sources import ring_store
from workers.ops.doctor.finding import Finding, failed, ok, skipped, warning
from workers.ops.doctor.subject import Subject


def look(subject: Subject) -> Iterator[Finding]:
    """One finding for each model without a ring, and for each key of the others'."""
    models = subject.settings.all_models()
    if not models:
        yield skipped("no model is configured")
    with subject.redis() as client:
        for name in models:
            store = ring_store(subject.settings, name, client)
            yield from _about(name, store, store.read(), subject.settings.keys.warn_days)


def _about(name: str, store: RingStore, snapshot: Snapshot, warn_days: int) -> Iterator[Finding]:
    live = snapshot.ring.live
    if not live:
        yield ok(f"{name}: its key is in the settings, which know no date")
    for entry in live:
        if store.open(entry.sealed) is None:
            yield _unreadable(name, entry)
        else:
            days = (entry.ends_ms - snapshot.now_ms) / DAY_MS
            yield _age(name, entry, days, warn_days, in_use=snapshot.ring.active is None)
        if entry.id in snapshot.refused:
            yield _refused(name, entry)


def _age(name: str, entry: Entry, days: float, warn_days: int, *, in_use: bool) -> Finding:
    """in_use: a replaced key is, since none is active: it stays past its overlap."""
    seen = f"{name}: key {entry.id}, {entry.state}"
    if days > warn_days or (entry.state == "replaced" and days > 0):
        return ok(f"{seen}, good for {days:.0f} days")
    if entry.state == "replaced" and not in_use:
        return ok(f"{seen}, its overlap is over")
    when = f"ends in {days:.1f} days" if days > 0 else f"ended {-days:.1f} days ago"
    return warning(
        f"{seen}, {when}",
        "It is still tried, but the provider may refuse it any day.",
        "make a new pair at the provider, and rotate",
        f"clawdbot keys rotate --model {name} --stdin",
    )


def _unreadable(name: str, entry: Entry) -> Finding:
    return failed(
        f"{name}: key {entry.id} is sealed with a master key that is not listed here",
        "With these settings the key can't be used.",
        "list the former CLAWDBOT_MASTER_KEY behind the new one (a JSON list), then seal anew",
        f"clawdbot keys reseal --model {name}",
    )


def _refused(name: str, entry: Entry) -> Finding:
    return warning(
        f"{name}: key {entry.id} was refused by the endpoint within the last five minutes",
        "All workers try it last.",
        "look whether it still works, and rotate if it doesn't",
        f"clawdbot keys verify --model {name}",
    )
