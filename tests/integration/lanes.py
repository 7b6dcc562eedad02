"""What the tests of the scripts share: an ingress's accept and a worker's lanes, side by side."""

from __future__ import annotations

import itertools
from typing import Any

import redis

from shared.envelope import hint_templates
from shared.messages import Event, Reply, seen_id
from shared.state import keys
from shared.state.keys import BotKeys, LaneKeys
from shared.state.scripts import script
from workers.claim import Claim
from workers.store import Lanes
from workers.usage import Consumers, Usage

BOT = BotKeys("feishu", "cli_test")
TEMPLATES = hint_templates()
USAGE = Usage(Consumers("", "", BOT.app_id, ""), prompt_tokens=3, completion_tokens=4, offset_s=0)
_numbers = itertools.count()


class Bench:
    """A Redis with lanes in it."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.lanes = Lanes(client, owner="w1@host/1", templates=TEMPLATES)

    def other_worker(self, owner: str = "w2@host/2") -> Lanes:
        return Lanes(self.client, owner=owner, templates=TEMPLATES)

    def accept(
        self,
        *events: Event,
        qps: int = 0,
        bot: int = 10_000,
        conv: int = 200,
        notice_after_ms: int = 0,
    ) -> Any:
        names = [keys.DUE, keys.HINTS, keys.SUSPECT, keys.SUSPECTS, keys.ACTIVE]
        args: list[Any] = [*TEMPLATES, "ingress", qps, keys.QPS_PREFIX, bot, conv]
        for event in events:
            names.append(BOT.inbox(event.conversation_id))
            args += [event.trace_id, seen_id(event), event.to_wire(str), notice_after_ms]
        return self.client.register_script(script("accept"))(keys=names, args=args)

    def claim(self, event: Event, lanes: Lanes | None = None) -> Claim:
        claim = (lanes or self.lanes).claim(inbox(event), 1)
        assert claim is not None
        return claim

    def write_back(self, claim: Claim, *parts: str) -> None:
        reply = Reply(parts or ("answer",))
        self.lanes.write_back(claim, reply, [], usage=USAGE, keep=0, ttl_s=60)

    def processed(self, event: Event, *parts: str) -> None:
        self.write_back(self.claim(event), *parts)

    def claim_reply(self, event: Event, lanes: Lanes | None = None) -> Claim:
        claim = (lanes or self.lanes).claim(outbox(event), 1)
        assert claim is not None
        return claim

    def expire_lease(self, lane: str) -> None:
        """As if 15 s had passed since the last renewal."""
        self.client.hset(LaneKeys(lane).state, "lease", "1")
        self.client.zadd(keys.DUE, {lane: 1})

    def make_due(self, lane: str) -> None:
        """As if the time to look at the lane had come."""
        state = LaneKeys(lane).state
        if self.client.hexists(state, "retry"):
            self.client.hset(state, "retry", "1")
        self.client.zadd(keys.DUE, {lane: 1})

    def hints(self, queue: str) -> int:
        return int(self.client.llen(queue))

    def counts(self) -> dict[str, int]:
        return {name: int(n) for name, n in self.client.hgetall(BOT.counts).items()}

    def sweep(self, lanes: Lanes | None = None) -> tuple[int, int] | None:
        return (lanes or self.lanes).sweep(lease_ms=5000, limit=200)


def event(conversation: str = "oc_1", text: str = "hello", **fields: Any) -> Event:
    number = next(_numbers)
    return Event(
        platform=BOT.platform,
        app_id=BOT.app_id,
        message_id=fields.pop("message_id", f"om_{number}"),
        event_id=fields.pop("event_id", f"ev_{number}"),
        conversation_id=conversation,
        text=text,
        **fields,
    )


def inbox(of: Event) -> str:
    return BOT.inbox(of.conversation_id)


def outbox(of: Event) -> str:
    return LaneKeys(inbox(of)).outbox
