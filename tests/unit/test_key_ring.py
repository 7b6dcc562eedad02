"""The key ring: states, dates, what may become of what. And the order in which keys are tried."""

from __future__ import annotations

import json

import pytest

from shared.state.key_ring import DAY_MS, MAX_ARCHIVED, Entry, KeyRing, RingError
from workers.keys.order import in_order
from workers.keys.pair import KeyPair

NOW = 1_800_000_000_000
WEEK = 7 * DAY_MS


def entry(name: str, *, now: int = NOW, days: int = 90) -> Entry:
    """A key whose id and sealed form are its name."""
    return Entry(name, "next", f"sealed {name}", now, now + days * DAY_MS)


def ring_with(active: str = "", waiting: str = "", replaced: str = "") -> KeyRing:
    ring = KeyRing()
    for name in filter(None, (replaced, active)):
        ring = ring.activate(entry(name), overlap_ms=WEEK, now_ms=NOW)
    return ring.add_next(entry(waiting, days=180)) if waiting else ring


def states(ring: KeyRing) -> dict[str, str]:
    return {e.id: e.state for e in ring.entries}


def test_a_ring_comes_back_from_redis_as_it_went() -> None:
    ring = ring_with("a", "b", "c").archive("c")

    assert KeyRing.from_json(ring.to_json()) == ring
    assert KeyRing.from_json("") == KeyRing()


def test_fields_of_a_later_release_are_left_aside() -> None:
    written = json.loads(ring_with("a").to_json())
    written["entries"][0]["later"] = True

    assert KeyRing.from_json(json.dumps(written)) == ring_with("a")


def test_a_new_active_key_replaces_the_old_one_through_the_overlap() -> None:
    ring = ring_with("old").activate(entry("new"), overlap_ms=WEEK, now_ms=NOW)

    assert states(ring) == {"old": "replaced", "new": "active"}
    old = ring.find("old")
    assert old is not None
    assert (old.accepted_until_ms, old.sealed) == (NOW + WEEK, "sealed old")


@pytest.mark.parametrize(("promoted_on", "ends_on"), [(0, 90), (80, 170), (120, 180)])
def test_the_next_key_becomes_active_and_ends_no_later_than_it_would_have(
    promoted_on: int, ends_on: int
) -> None:
    """It is a secret as old as before: waiting makes it no younger."""
    now = NOW + promoted_on * DAY_MS

    ring = ring_with("a", "b").activate(entry("b", now=now), overlap_ms=WEEK, now_ms=now)

    assert states(ring) == {"a": "replaced", "b": "active"}
    assert ring.active is not None
    assert ring.active.created_ms == NOW
    assert ring.active.valid_until_ms == NOW + ends_on * DAY_MS


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_what_is_in_the_ring_cannot_be_added_again(name: str) -> None:
    ring = ring_with("a", replaced="c").add_next(entry("b"))

    with pytest.raises(RingError, match="already"):
        ring.add_next(entry(name))
    if name == "a":
        with pytest.raises(RingError, match="already in the ring, as active"):
            ring.activate(entry(name), overlap_ms=WEEK, now_ms=NOW)


def test_a_rotation_is_taken_back_by_making_the_replaced_key_active() -> None:
    later = NOW + 2 * DAY_MS

    ring = ring_with("new", replaced="old").activate(
        entry("old", now=later), overlap_ms=WEEK, now_ms=later
    )

    assert states(ring) == {"old": "active", "new": "replaced"}
    old, new = ring.find("old"), ring.find("new")
    assert old is not None
    assert new is not None
    assert (old.ends_ms, new.ends_ms) == (later + 90 * DAY_MS, later + WEEK)
    assert tried(ring, (), now=later) == ["old", "new"]


def test_an_archived_key_may_come_back() -> None:
    ring = ring_with("a").archive("a").add_next(entry("a"))

    assert states(ring) == {"a": "next"}


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_archiving_deletes_the_secret(name: str) -> None:
    ring = ring_with("a", "b", "c").archive(name)

    gone = ring.find(name)
    assert gone is not None
    assert (gone.state, gone.sealed) == ("archived", "")
    assert ring.archived_ids == {name}
    with pytest.raises(RingError, match="no key of this id is in use"):
        ring.archive(name)


def test_what_is_past_its_window_is_archived_and_an_active_key_never_is() -> None:
    ring = ring_with("a", "b", "c")

    assert ring.without_past(NOW + WEEK - 1) == ring
    assert states(ring.without_past(NOW + WEEK)) == {"c": "archived", "a": "active", "b": "next"}
    assert states(ring.without_past(NOW + 1000 * DAY_MS)) == {
        "c": "archived",
        "a": "active",
        "b": "archived",
    }


def test_a_replaced_key_does_not_end_while_none_is_active() -> None:
    """The last rotation was undone by archiving its key: the one before is in use."""
    ring, later = ring_with("bad", replaced="c").archive("bad"), NOW + 8 * DAY_MS

    assert ring.without_past(later) == ring
    assert tried(ring, (), now=later) == ["c"]
    after = ring.activate(entry("good", now=later), overlap_ms=WEEK, now_ms=later)
    assert after.without_past(later) == after, "it was in use: its overlap begins now"
    assert states(after.without_past(later + WEEK))["c"] == "archived"


def test_only_the_newest_archived_keys_are_remembered() -> None:
    ring = KeyRing()
    for number in range(MAX_ARCHIVED + 5):
        added = ring.add_next(entry(f"k{number}", now=NOW + number))
        ring = added.archive(f"k{number}")

    assert len(ring.entries) == MAX_ARCHIVED
    assert ring.find("k4") is None
    assert ring.find("k5") is not None


def test_a_ring_is_sealed_anew_but_for_what_is_archived() -> None:
    ring = ring_with("a", "b").archive("b").resealed(lambda sealed: f"{sealed} again")

    assert [e.sealed for e in ring.entries] == ["sealed a again", ""]


# --- the order of trying ------------------------------------------------------------------------

OWN = (KeyPair("", "own"), KeyPair("", "spare"))
KEYLESS = (KeyPair("", ""),)


def tried(
    ring: KeyRing,
    own: tuple[KeyPair, ...] = OWN,
    refused: tuple[str, ...] = (),
    now: int = NOW,
    unreadable: str = "",
) -> list[str]:
    """The secrets in the order of trying; those of the ring are the keys' names."""
    opened = {e.sealed: Named("", e.id) for e in ring.live if e.id != unreadable}
    return [pair.secret for pair in in_order(ring, opened, own, refused, now)]


class Named(KeyPair):
    """A pair whose id is its secret."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", self.secret)


def test_without_a_ring_the_settings_keys_are_tried_in_their_order() -> None:
    assert tried(KeyRing()) == ["own", "spare"]
    assert tried(KeyRing(), refused=(OWN[0].id,)) == ["spare", "own"]
    assert tried(KeyRing(), KEYLESS) == [""]


def test_the_rings_keys_come_before_the_settings() -> None:
    assert tried(ring_with("a", "b", "c")) == ["a", "b", "c", "own", "spare"]
    assert tried(ring_with("a"), KEYLESS) == ["a"]


def test_while_the_ring_has_no_active_key_the_settings_are_it() -> None:
    assert tried(ring_with(waiting="b")) == ["own", "spare", "b"]


def test_a_refused_key_comes_last_and_is_not_lost() -> None:
    assert tried(ring_with("a", "b"), refused=("a",)) == ["b", "own", "spare", "a"]
    assert tried(ring_with("a"), (), refused=("a",)) == ["a"]


def test_a_replaced_key_past_its_window_is_not_tried() -> None:
    assert tried(ring_with("a", replaced="c"), now=NOW + WEEK) == ["a", "own", "spare"]


def test_an_active_key_past_its_date_is_tried_after_all_others() -> None:
    late = NOW + 91 * DAY_MS

    assert tried(ring_with("a", "b"), now=late) == ["b", "own", "spare", "a"]
    assert tried(ring_with("a"), (), now=late) == ["a"]


def test_a_settings_key_that_was_archived_in_the_ring_is_not_tried() -> None:
    ring = ring_with("a").add_next(entry(OWN[0].id)).archive(OWN[0].id)

    assert tried(ring) == ["a", "spare"]


def test_a_settings_key_past_its_window_in_the_ring_is_not_tried() -> None:
    """Nor before it is archived: that may be a minute later, or never without a worker."""
    outside = Entry(OWN[0].id, "replaced", "sealed own", NOW, NOW + WEEK, NOW + WEEK)
    ring = ring_with("a").with_outsiders([outside])

    assert tried(ring, unreadable=OWN[0].id, now=NOW + WEEK - 1) == ["a", "own", "spare"]
    assert tried(ring, now=NOW + WEEK) == ["a", "spare"]


def test_while_the_ring_has_no_active_key_the_settings_come_first_though_it_has_them() -> None:
    ring = ring_with("a", "b").with_outsiders(
        [Entry("own", "replaced", "sealed own", NOW, NOW + WEEK, NOW + WEEK)]
    )

    assert tried(ring, (Named("", "own"),)) == ["a", "b", "own"]
    assert tried(ring.archive("a"), (Named("", "own"),), now=NOW + 2 * WEEK) == ["own", "b"]


@pytest.mark.parametrize("days", [0, 8])
def test_a_settings_key_is_tried_whatever_the_ring_says_when_no_other_is_left(days: int) -> None:
    outside = [Entry(p.id, "replaced", f"s {p.id}", NOW, NOW, NOW + WEEK) for p in OWN]
    ring, now = ring_with("a").with_outsiders(outside), NOW + days * DAY_MS
    unopened: dict[str, None] = {}

    assert in_order(ring, unopened, OWN, (), now) == OWN
    for each in ring.live:
        ring = ring.archive(each.id)
    assert in_order(ring, unopened, OWN, (), now) == OWN
    assert in_order(ring, unopened, KEYLESS, (), now) == KEYLESS


def test_a_key_from_outside_comes_in_behind_the_rings_and_once() -> None:
    ring = ring_with("a", "b", "c").archive("b")
    outside = [Entry(name, "replaced", f"sealed {name}", NOW, 0, NOW) for name in "abcd"]

    after = ring.with_outsiders(outside)

    assert [(e.id, e.state) for e in after.entries] == [
        ("a", "active"),
        ("c", "replaced"),
        ("d", "replaced"),
        ("b", "archived"),
    ]
    assert after.with_outsiders(outside) == after


def test_a_key_in_both_places_is_tried_once() -> None:
    ring = KeyRing().activate(entry(OWN[1].id), overlap_ms=WEEK, now_ms=NOW)
    opened = {e.sealed: OWN[1] for e in ring.live}

    assert in_order(ring, opened, OWN, (), NOW) == (OWN[1], OWN[0])


def test_a_ring_that_no_master_key_opens_leaves_the_settings_keys() -> None:
    assert tried(ring_with("a"), unreadable="a") == ["own", "spare"]
