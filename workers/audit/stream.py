"""What operators did, in a bounded Redis stream: a report works on any host."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import redis

from shared.audit import Action
from shared.messages import dump_json
from shared.state import keys
from shared.state.scripts import script

MOST_ACTIONS = 10_000
PAGE = 500  #: entries read by one call


@dataclass(frozen=True, slots=True)
class Kept:
    """An action and when it was kept, in ms of Redis's clock."""

    ms: int
    action: Action


class ActionStream:
    """The stream as workers and commands see it."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._keep = client.register_script(script("audit_action"))

    def keep(self, action: Action) -> None:
        """Raises: RedisError."""
        mark = keys.AUDIT_SENT_PREFIX + secrets.token_urlsafe(9)
        fields = ["action", action.name, "user", action.user, "host", action.host]
        fields += ["facts", dump_json(dict(action.facts))]
        self._keep(keys=[keys.AUDIT_ACTIONS, mark], args=[MOST_ACTIONS, *fields])

    def between(self, first_ms: int, end_ms: int) -> Iterator[Kept]:
        """Those from `first_ms` until before `end_ms`, oldest first."""
        start = f"{first_ms}-0"
        while page := self._client.xrange(keys.AUDIT_ACTIONS, start, f"({end_ms}-0", count=PAGE):
            yield from (_kept(name, fields) for name, fields in page)
            start = f"({page[-1][0]}"


def _kept(name: str, fields: dict[str, Any]) -> Kept:
    action = Action(fields["action"], fields["user"], fields["host"], json.loads(fields["facts"]))
    return Kept(int(name.partition("-")[0]), action)
