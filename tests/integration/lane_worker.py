"""A worker whose every script call may be sent twice, or once more long after."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tests.integration.lane_dump import lasting, timeless
from tests.integration.lanes import TEMPLATES
from workers.store import Lanes

if TYPE_CHECKING:
    from tests.integration.lane_machine import World


class Worker(Lanes):
    """Sends every script twice while `twice` is set, as a client does whose reply was lost."""

    def __init__(self, world: World, owner: str) -> None:
        super().__init__(world.client, owner=owner, templates=TEMPLATES)
        self._world = world
        self.is_stopping = False

    def _run(self, name: str, names: Sequence[str], args: Sequence[Any]) -> Any:
        answer = self.send(name, names, args)
        if not self._world.twice:
            return answer
        before = lasting(self._world.snapshot())
        again = self.send(name, names, args)
        assert lasting(self._world.snapshot()) == before, f"a repeated {name} changed something"
        if name not in ("sweep", "tell_waiting"):
            assert timeless(again) == timeless(answer), (
                f"a repeated {name}: {again}, at first {answer}"
            )
        return answer

    def send(self, name: str, names: Sequence[str], args: Sequence[Any]) -> Any:
        """One script call, and a note of it for `World.repeat_late`."""
        if name in ("write_back", "settle", "reject", "retry", "bury"):
            self._world.calls.append((self, name, names, args))
        return super()._run(name, names, args)


class SendsTwice(Lanes):
    """As a client whose every first reply is lost."""

    def _run(self, name: str, names: Sequence[str], args: Sequence[Any]) -> Any:
        super()._run(name, names, args)
        return super()._run(name, names, args)


def read_hint(message: str) -> tuple[str, int]:
    """Lane and number of the hint in a Celery message."""
    lane, seq, _ = json.loads(json.loads(message)["body"])[0]
    return lane, int(seq)


def queue_of(lane: str) -> str:
    """The stage that works on a lane."""
    return "push" if lane.endswith(":outbox") else "process"


def popping(waiting: list[str]) -> Iterator[str]:
    """Entry after entry, taken out as it comes; some may be added meanwhile."""
    while waiting:
        yield waiting.pop(0)
