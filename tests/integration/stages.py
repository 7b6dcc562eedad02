"""An ingress's accept and a worker's stages in this process, beside a real Redis."""

from __future__ import annotations

import time
from typing import Any

import redis

from ingress.bots import build_bots
from shared.config import Settings
from shared.config.live import Live
from shared.http_values import RawRequest
from shared.messages import Event
from shared.state import keys
from shared.state.keys import LaneKeys
from shared.state.scripts import script
from tests.integration.gateway import build
from tests.integration.lanes import TEMPLATES
from tests.simulator.ledger import VISIBLE, ModelCall, Send
from tests.simulator.world import World
from workers.metrics import Metrics
from workers.runtime import Runtime

OWNER = "w1@host/1"


class Stack:
    """An ingress's accept, a worker's stages, and the world they talk to."""

    def __init__(self, settings: Settings, client: redis.Redis, world: World) -> None:
        self.settings = settings
        self.client = client
        self.world = world
        self.runtime = Runtime(Live(settings), OWNER, 2, Metrics())
        self._bots = build_bots(settings)
        self._accept = client.register_script(script("accept"))

    def write(self, platform: str, text: str = "hello", **more: Any) -> Event:
        """A person writes; the event is on its lane."""
        _, headers, body = build(platform, text, simulator=self.world.base_url, **more)
        bot = self._bots[platform, "default"]
        raw = RawRequest({name.lower(): value for name, value in headers.items()}, body)
        event = bot.inbound.receive(raw, now=time.time())
        assert isinstance(event, Event)
        names = [keys.DUE, keys.HINTS, keys.SUSPECT, keys.SUSPECTS, keys.ACTIVE]
        names.append(bot.keys.inbox(event.conversation_id))
        limits = [*TEMPLATES, "ingress", 0, keys.QPS_PREFIX, 10_000, 200]
        given = [event.trace_id, "", bot.wire(event), bot.notice_after_ms]
        assert self._accept(keys=names, args=[*limits, *given]) == ["accepted"]
        return event

    def lane(self, event: Event) -> str:
        return self._bots[event.platform, "default"].keys.inbox(event.conversation_id)

    def outbox(self, event: Event) -> str:
        return LaneKeys(self.lane(event)).outbox

    def process(self, event: Event) -> None:
        self.runtime.process.run(self.lane(event), 1)

    def push(self, event: Event) -> None:
        self.runtime.push.run(self.outbox(event), 1)

    def answer(self, platform: str, **more: Any) -> Event:
        """An event whose reply waits for its push."""
        event = self.write(platform, **more)
        self.process(event)
        assert self.client.exists(self.outbox(event))
        return event

    def state(self, lane: str) -> dict[str, str]:
        return self.client.hgetall(LaneKeys(lane).state)

    def record(self, event: Event) -> dict[str, str]:
        return self.client.hgetall(self.key(event))

    def key(self, event: Event) -> str:
        return LaneKeys(self.lane(event)).bot.event(event.trace_id)

    def is_answered(self, event: Event) -> bool:
        return self.client.type(self.key(event)) == "string"  # finished, and nothing was dropped

    def counts(self, event: Event) -> dict[str, int]:
        found = self.client.hgetall(LaneKeys(self.lane(event)).bot.counts)
        return {name: int(count) for name, count in found.items() if int(count)}

    def make_due(self, lane: str) -> None:
        """As if the wait for the retry were over."""
        self.client.hset(LaneKeys(lane).state, "retry", "1")

    def fault(self, target: str, kind: str, **more: Any) -> Any:
        return self.world.faults.order({"target": target, "kind": kind, **more})

    def sends(self, outcome: str = VISIBLE) -> list[Send]:
        found = [r for r in self.world.ledger.since(0) if isinstance(r, Send)]
        return [send for send in found if send.outcome == outcome]

    def model_calls(self) -> int:
        return sum(isinstance(record, ModelCall) for record in self.world.ledger.since(0))

    def now_ms(self) -> int:
        seconds, micros = self.client.time()
        return int(seconds * 1000 + micros // 1000)
