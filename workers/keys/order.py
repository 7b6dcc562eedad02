"""Which keys are tried, in which order: a pure function of what is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from shared.state.key_ring import KeyRing
from workers.keys.pair import KeyPair


def in_order(
    ring: KeyRing,
    opened: Mapping[str, KeyPair | None],
    own: Sequence[KeyPair],
    refused: Iterable[str],
    now_ms: int,
) -> tuple[KeyPair, ...]:
    """The ring's active key, then its others, then the settings' own.

    Without an active key in the ring, the settings' are it, and come first. What was refused of
    late, and an active key past its date, come last. A settings' key that was archived in the ring,
    or is past its window there, is not used, unless nothing else is left: better a key that was
    to end than none.

    opened: pairs by their sealed form.
    """
    usable = ring.usable(now_ms)
    pairs = {e.id: pair for e in usable if (pair := opened.get(e.sealed)) is not None}
    out = {e.id for e in ring.entries} - {e.id for e in usable}
    others = {pair.id: pair for pair in own if pair.id not in out}
    if not pairs and not others:
        others = {pair.id: pair for pair in own}
    has_active = ring.active is not None and ring.active.id in pairs
    ids = dict.fromkeys([*pairs, *others] if has_active else [*others, *pairs])
    ordered = [pairs.get(key_id) or others[key_id] for key_id in ids]
    if any(pair.secret for pair in ordered):  # a call without a key is for models that want none
        ordered = [pair for pair in ordered if pair.secret]
    last = {*refused, *(e.id for e in usable if e.state == "active" and e.is_over(now_ms))}
    return tuple(sorted(ordered, key=lambda pair: pair.id in last))
