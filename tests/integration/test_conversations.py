"""A conversation's memory in Redis: its size, and forgetting it."""

from __future__ import annotations

import pytest

from shared.messages import Event, Reply
from shared.state.keys import LaneKeys
from tests.integration.lanes import USAGE, Bench, event, inbox
from workers.conversation import Memory

MEMORY = Memory(turns=50, max_bytes=16_384)


def converse(bench: Bench, said: Event, answer: str) -> LaneKeys:
    """One message and its answer, remembered."""
    bench.accept(said)
    claim = bench.lanes.claim(inbox(said), 1, history_entries=2 * MEMORY.turns)
    assert claim is not None
    turn, keep = MEMORY.with_turn(claim.history, said.text, answer)
    bench.lanes.write_back(claim, Reply((answer,)), turn, usage=USAGE, keep=keep, ttl_s=60)
    return claim.keys


@pytest.mark.parametrize("size", [5, 200, 5000], ids=["short", "usual", "long"])
def test_the_memory_of_a_conversation_is_bounded(bench: Bench, size: int) -> None:
    for _ in range(60):
        keys = converse(bench, event("oc_1", text="问" * (size // 3)), "答" * size)
    stored = sum(len(entry.encode()) for entry in bench.client.lrange(keys.history, 0, -1))

    assert stored <= MEMORY.max_bytes
    assert bench.client.llen(keys.history) <= 2 * MEMORY.turns
    assert bench.client.memory_usage(keys.history) <= 1.3 * MEMORY.max_bytes + 1024


def test_a_forgotten_conversation_begins_anew(bench: Bench) -> None:
    keys = converse(bench, event("oc_1", text="remember me"), "yes")

    assert bench.lanes.forget(keys) == 2

    again = event("oc_1", text="who am I?")
    bench.accept(again)
    claim = bench.lanes.claim(inbox(again), 2, history_entries=10)
    assert claim is not None
    assert claim.history == []


def test_the_turn_that_is_worked_on_is_forgotten_too(bench: Bench) -> None:
    said = event("oc_1", text="remember me")
    bench.accept(said)
    claim = bench.claim(said)

    bench.lanes.forget(claim.keys)
    bench.lanes.write_back(
        claim, Reply(("yes",)), ["uremember me", "ayes"], usage=USAGE, keep=20, ttl_s=60
    )

    assert bench.client.exists(claim.keys.history) == 0
    assert bench.client.llen(claim.keys.outbox) == 1


def test_a_turn_tried_again_after_the_forgetting_is_remembered(bench: Bench) -> None:
    said = event("oc_1", text="remember me")
    bench.accept(said)
    claim = bench.claim(said)
    bench.lanes.forget(claim.keys)
    bench.lanes.retry(claim, 0, "model:503")

    again = bench.claim(said)
    bench.lanes.write_back(
        again, Reply(("yes",)), ["uremember me", "ayes"], usage=USAGE, keep=20, ttl_s=60
    )

    assert bench.client.llen(claim.keys.history) == 2
