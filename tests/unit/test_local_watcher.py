"""When a worker counts as stuck: hints wait, and for 30 s it shows no sign of life."""

from __future__ import annotations

from compose.local.watcher import STUCK_S, Progress, Sighting, follow, is_stuck


def after(*sightings: tuple[float, Sighting]) -> Progress:
    """What is known after looks at these times."""
    progress: Progress | None = None
    for now, sighting in sightings:
        progress = follow(progress, sighting, now)
    assert progress is not None
    return progress


def test_worker_that_does_nothing_while_hints_wait_is_stuck_after_30_s() -> None:
    idle = Sighting(pid=7, waiting=1, active="1000")

    progress = after((0.0, idle), (10.0, idle), (29.0, idle))

    assert not is_stuck(progress, STUCK_S - 0.1)
    assert is_stuck(progress, STUCK_S)


def test_worker_that_never_did_anything_has_30_s_from_its_start() -> None:
    progress = after((5.0, Sighting(7, waiting=3, active="")))

    assert not is_stuck(progress, 34.9)
    assert is_stuck(progress, 35.0)


def test_claim_renewal_or_settling_begins_the_30_s_anew() -> None:
    progress = after(
        (0.0, Sighting(7, waiting=9, active="1000")), (20.0, Sighting(7, waiting=9, active="1001"))
    )

    assert not is_stuck(progress, 49.9)
    assert is_stuck(progress, 50.0)


def test_empty_queue_is_no_reproach() -> None:
    progress = after(
        (0.0, Sighting(7, waiting=1, active="1000")),
        (29.0, Sighting(7, waiting=0, active="1000")),
        (30.0, Sighting(7, waiting=1, active="1000")),
    )

    assert not is_stuck(progress, 58.9)
    assert is_stuck(progress, 59.0)


def test_restart_begins_the_30_s_anew() -> None:
    progress = after(
        (0.0, Sighting(7, waiting=1, active="1000")), (29.0, Sighting(8, waiting=1, active="1000"))
    )

    assert progress == Progress(8, "1000", 29.0)
