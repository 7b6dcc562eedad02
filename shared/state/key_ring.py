"""A model's key ring: which keys there are, in which state, until when. Pure.

| state | what | until |
|---|---|---|
| active | in use | `valid_until`; past it, it is still tried, after all others |
| next | waits to become active; tried when the active one is refused | `valid_until` |
| replaced | was active; tried when the others are refused | `accepted_until`, while one is active |
| archived | out of use, its secret is gone | – |
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Literal

from shared.messages import dump_json

State = Literal["active", "next", "replaced", "archived"]

LIVE_STATES: tuple[State, ...] = ("active", "next", "replaced")  #: in the order of trying
MAX_ARCHIVED = 20  #: older ones are forgotten
DAY_MS = 86_400_000

_VERSION = 1


class RingError(ValueError):
    """What was asked makes no sense for this ring; the text is for the operator."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One key. Times are ms of Redis's clock, 0 for none.

    id: the secret's fingerprint. sealed: the pair, empty when archived.
    """

    id: str
    state: State
    sealed: str = field(repr=False)
    created_ms: int
    valid_until_ms: int
    accepted_until_ms: int = 0

    @property
    def ends_ms(self) -> int:
        """When its time in its state is over."""
        return self.accepted_until_ms if self.state == "replaced" else self.valid_until_ms

    def is_over(self, now_ms: int) -> bool:
        return now_ms >= self.ends_ms

    def archived(self) -> Entry:
        return replace(self, state="archived", sealed="")


_FIELDS = tuple(each.name for each in fields(Entry))


@dataclass(frozen=True, slots=True)
class KeyRing:
    """All keys of one model. A change gives another ring."""

    entries: tuple[Entry, ...] = ()

    @classmethod
    def from_json(cls, text: str) -> KeyRing:
        """`text` as `to_json` wrote it; empty text is an empty ring.

        Fields that a later release added are left aside.
        """
        if not text:
            return cls()
        return cls(
            tuple(
                Entry(**{name: entry[name] for name in _FIELDS if name in entry})
                for entry in json.loads(text)["entries"]
            )
        )

    def to_json(self) -> str:
        return dump_json({"v": _VERSION, "entries": [asdict(entry) for entry in self.entries]})

    @property
    def live(self) -> tuple[Entry, ...]:
        """What is not archived, in the order of trying."""
        return tuple(entry for state in LIVE_STATES for entry in self._in(state))

    @property
    def archived_ids(self) -> frozenset[str]:
        return frozenset(entry.id for entry in self._in("archived"))

    @property
    def active(self) -> Entry | None:
        return next(iter(self._in("active")), None)

    @property
    def next(self) -> Entry | None:
        return next(iter(self._in("next")), None)

    def usable(self, now_ms: int) -> tuple[Entry, ...]:
        """What may be tried, in that order: what is not past its window.

        An active key never is past it, nor is a replaced one while there is no active key: it was
        taken out before its successor had proved itself, and nothing might be left.
        """
        always: set[State] = {"active"} if self.active else {"replaced"}
        return tuple(e for e in self.live if e.state in always or not e.is_over(now_ms))

    def find(self, key_id: str) -> Entry | None:
        return next((entry for entry in self.entries if entry.id == key_id), None)

    def add_next(self, entry: Entry) -> KeyRing:
        """`entry` waits to become active.

        Raises:
            RingError: it is there already, or another one waits.
        """
        self.check_room()
        return self._with(replace(entry, state="next"))

    def check_room(self) -> None:
        """Raises: RingError, when a next key waits: there is no room for another."""
        if self.next is not None:
            raise RingError(
                f"{self.next.id} already waits as the next key: promote it with "
                "`clawdbot keys rotate`, or archive it first"
            )

    def activate(self, entry: Entry, *, overlap_ms: int, now_ms: int) -> KeyRing:
        """`entry`, new, waiting or taken back, becomes active; what was in use is replaced.

        One that waited is no younger for it, and ends no later than it would have. One that was
        replaced is as good as new: past its date it would be tried after the key it is to stand
        in for.

        Raises:
            RingError: it is the active one already.
        """
        known = self.find(entry.id)
        if known is not None and known.state == "next":
            ends_ms = min(entry.valid_until_ms, known.valid_until_ms)
            entry = replace(entry, created_ms=known.created_ms, valid_until_ms=ends_ms)
        back: tuple[State, ...] = ("next", "replaced")
        ring = KeyRing(tuple(e for e in self.entries if e.id != entry.id or e.state not in back))
        until = now_ms + overlap_ms
        in_use: State = "active" if self.active else "replaced"
        return ring._with(replace(entry, state="active", accepted_until_ms=0))._mapped(
            lambda old: (
                replace(old, state="replaced", accepted_until_ms=until)
                if old.state == in_use and old.id != entry.id
                else old
            )
        )

    def with_outsiders(self, entries: Iterable[Entry]) -> KeyRing:
        """Keys that were accepted without being in the ring are in it, but for those it knows."""
        new = tuple(entry for entry in entries if self.find(entry.id) is None)
        return KeyRing((*self.entries, *new))._mapped(lambda old: old)

    def archive(self, key_id: str) -> KeyRing:
        """Take a key out of use.

        Raises:
            RingError: there is none of this id, or it is archived.
        """
        entry = self.find(key_id)
        if entry is None or entry.state == "archived":
            raise RingError(f"{key_id}: no key of this id is in use; see `clawdbot keys list`")
        return self._mapped(lambda old: old.archived() if old.id == key_id else old)

    def without_past(self, now_ms: int) -> KeyRing:
        """What is past its window is archived."""
        stays = {entry.id for entry in self.usable(now_ms)}
        return self._mapped(
            lambda old: old if old.id in stays or old.state == "archived" else old.archived()
        )

    def resealed(self, seal_anew: Callable[[str], str]) -> KeyRing:
        """The same ring, every pair sealed anew."""
        return self._mapped(
            lambda old: replace(old, sealed=seal_anew(old.sealed)) if old.sealed else old
        )

    def _in(self, state: State) -> Iterable[Entry]:
        return (entry for entry in self.entries if entry.state == state)

    def _with(self, entry: Entry) -> KeyRing:
        known = self.find(entry.id)
        if known is not None and known.state != "archived":
            raise RingError(f"{entry.id} is already in the ring, as {known.state}")
        return KeyRing((entry, *(old for old in self.entries if old.id != entry.id)))

    def _mapped(self, change: Callable[[Entry], Entry]) -> KeyRing:
        """The archived ones stand last, in the order of archiving: the first are forgotten."""
        changed, before = [change(entry) for entry in self.entries], self.archived_ids
        live = [entry for entry in changed if entry.state != "archived"]
        archived = [entry for entry in changed if entry.state == "archived"]
        archived.sort(key=lambda entry: entry.id not in before)
        return KeyRing((*live, *archived[-MAX_ARCHIVED:]))
