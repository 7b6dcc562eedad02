"""The lanes on a real Redis beside their model: every act is done to both and compared."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import redis

from shared.errors import ClaimLostError
from shared.messages import Event, Reply, seen_id
from shared.state import keys
from shared.state.census import Census
from shared.state.keys import BotKeys, LaneKeys
from shared.state.scripts import script
from tests.integration.lane_model import BOT_CAPACITY, CONVERSATION_CAPACITY, Lane, Model
from tests.integration.lanes import TEMPLATES
from workers.store import Claim, Lanes

BOTS = (BotKeys("feishu", "cli_test"), BotKeys("dingtalk", "ding_test"))
CONVERSATIONS = ((BOTS[0], "oc_1"), (BOTS[0], "oc_2"), (BOTS[1], "cid_1"))
HOUR_MS = 3_600_000  #: leases and retries last that long here: only the tests move the time
HINT_GRACE_MS = 15_000
NOTICE = Reply(("sorry",), kind="notice")
SHARED = [keys.DUE, keys.HINTS, keys.SUSPECT, keys.SUSPECTS, keys.ACTIVE]
#: The repeat of an operator's call finds it done, and says so.
REPEAT_SAYS = {"replay": "not_dead", "drop": 0}

DUMP = """
local read = {
  hash = function(key) return redis.call('HGETALL', key) end,
  list = function(key) return redis.call('LRANGE', key, 0, -1) end,
  zset = function(key) return redis.call('ZRANGE', key, 0, -1, 'WITHSCORES') end,
  string = function(key) return redis.call('GET', key) end,
  set = function(key) return redis.call('SCARD', key) end,
}
local found = {}
for i, key in ipairs(redis.call('KEYS', '*')) do
  local kind = redis.call('TYPE', key).ok
  found[i] = {key, kind, read[kind](key)}
end
local t = redis.call('TIME')
return {t[1] * 1000 + math.floor(t[2] / 1000), found}
"""


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
        before = self._world.lasting()
        again = self.send(name, names, args)
        assert self._world.lasting() == before, f"a repeated {name} changed something"
        if name != "sweep":
            assert _timeless(again) == REPEAT_SAYS.get(name, _timeless(answer)), name
        return answer

    def send(self, name: str, names: Sequence[str], args: Sequence[Any]) -> Any:
        """One script call, and a note of it for `World.repeat_late`."""
        if name in ("write_back", "settle", "retry", "bury"):
            self._world.calls.append((self, name, names, args))
        return super()._run(name, names, args)


def _timeless(answer: Any) -> Any:
    is_claim = isinstance(answer, list) and answer[:1] == ["claimed"]
    return [*answer[:6], *answer[7:]] if is_claim else answer


class World:
    """An empty Redis, an ingress and two workers."""

    def __init__(self, client: redis.Redis) -> None:
        client.flushall()
        self.client = client
        self.model = Model()
        self.twice = False
        self.events: list[Event] = []
        self.claims: list[tuple[Worker, Claim]] = []
        self.calls: list[tuple[Worker, str, Sequence[str], Sequence[Any]]] = []
        self.hints: list[tuple[str, int]] = []
        self.shown: list[tuple[str, int]] = []
        self._numbers = itertools.count(1)
        self._accept = client.register_script(script("accept"))
        self._walk = client.register_script(script("walk"))
        self._dump = client.register_script(DUMP)
        self.workers = [self.new_worker(), self.new_worker()]

    def new_worker(self) -> Worker:
        return Worker(self, f"w@host/{next(self._numbers)}")

    # What Redis holds

    def snapshot(self) -> tuple[int, dict[str, Any]]:
        """Redis's time in ms, and every key: hashes and sorted sets as dicts."""
        now, found = self._dump()
        pairs = ("hash", "zset")
        return now, {
            key: dict(zip(value[::2], value[1::2], strict=True)) if kind in pairs else value
            for key, kind, value in found
        }

    def lasting(self) -> dict[str, Any]:
        """Everything but what may differ between two sendings: times to look, leases' ends."""
        _, content = self.snapshot()
        content.pop(keys.ACTIVE, None)
        content[keys.DUE] = sorted(content.get(keys.DUE, ()))
        for key, value in content.items():
            if key.endswith(":state"):
                value.pop("lease", None)
        return content

    # The ingress

    def new_event(self, bot: BotKeys, conversation: str, event_id: str = "") -> Event:
        number = next(self._numbers)
        event = Event(
            platform=bot.platform,
            app_id=bot.app_id,
            message_id=f"m{number}",
            event_id=event_id or f"e{number}",
            conversation_id=conversation,
            text="hello",
        )
        self.events.append(event)
        return event

    def accept(self, *events: Event) -> None:
        """Send events in one call; each must get the model's answer."""
        names = list(SHARED)
        args: list[Any] = [*TEMPLATES, "ingress", 0, keys.QPS_PREFIX]
        args += [BOT_CAPACITY, CONVERSATION_CAPACITY]
        for event in events:
            bot = BotKeys(event.platform, event.app_id)
            names += [bot.event(event.trace_id), bot.seen]
            names += [bot.inbox(event.conversation_id), bot.counts]
            args += [event.trace_id, seen_id(event), event.to_wire(str)]
        for _ in range(1 + self.twice):
            expected = [self.model.accept(event) for event in events]
            assert self._accept(keys=names, args=args) == expected

    # The broker

    def take_hint(self, queue: str, *, put_back: bool = False) -> tuple[str, int] | None:
        """The oldest hint of a queue. `put_back`: as a broker does whose worker died."""
        message = self.client.rpop(queue)
        if message is None:
            return None
        if put_back:
            self.client.rpush(queue, message)
        lane, seq, _ = json.loads(json.loads(message)["body"])[0]
        self.hints.append((lane, int(seq)))
        return lane, int(seq)

    # The workers

    def claim(self, worker: Worker, lane: str, seq: int) -> Claim | None:
        expected = self.model.claim(lane, is_stopping=worker.is_stopping)
        claim = worker.claim(lane, seq)
        if expected is None or claim is None:
            assert (claim, expected) == (None, None)
            return None
        found = (claim.head, claim.attempt, claim.is_poison)
        assert found == (expected.entry, expected.attempt, expected.is_poison)
        if lane.endswith(":outbox"):
            assert (claim.unsure_ms is not None) == expected.is_unsure
            assert claim.is_notice or int(claim.record.get("next_part", 0)) == expected.next_part
        self.model.granted(claim)
        self.claims.append((worker, claim))
        return claim

    def renew(self, worker: Worker, claims: Sequence[Claim]) -> None:
        assert worker.renew(claims) == [self.model.holds(claim) for claim in claims]
        for claim in filter(self.model.holds, claims):
            self.model.renewed(claim)

    def write_back(self, worker: Worker, claim: Claim, parts: tuple[str, ...]) -> None:
        def act() -> None:
            worker.write_back(claim, Reply(parts), ["q", claim.head], keep=4, ttl_s=3600)

        if self._ends(claim, act):
            self.model.written_back(claim, parts)

    def show(self, claim: Claim) -> None:
        """The platform takes the next part: from now on the person sees it."""
        if not claim.is_notice:
            self.shown.append((claim.head, int(claim.record.get("next_part", 0))))

    def settle(self, worker: Worker, claim: Claim) -> None:
        wire, part = ("notice", 0)
        if not claim.is_notice:
            wire, part = ("reply", int(claim.record.get("next_part", 0)))
        parts = len(Reply.from_wire(claim.record[wire]).parts)
        if self._ends(claim, lambda: worker.settle(claim, next_part=part + 1, parts=parts)):
            self.model.settled(claim)

    def retry(self, worker: Worker, claim: Claim, *, waits: bool, is_unsure: bool) -> None:
        wait_s = HOUR_MS / 1000 if waits else 0
        if self._ends(claim, lambda: worker.retry(claim, wait_s, "cut", unsure=is_unsure)):
            self.model.given_back(claim, waits=waits, is_unsure=is_unsure)

    def bury(self, worker: Worker, claim: Claim, *, wants_notice: bool) -> None:
        notice = NOTICE if wants_notice and not claim.is_notice else None
        if self._ends(claim, lambda: worker.bury(claim, "model:401", notice)):
            self.model.buried(claim, wants_notice=notice is not None)

    def _ends(self, claim: Claim, act: Callable[[], None]) -> bool:
        """True if the claim was good; a stale one must be refused and change nothing."""
        if self.model.holds(claim):
            act()
            self.claims = [each for each in self.claims if each[1] is not claim]
            return True
        _, before = self.snapshot()
        with pytest.raises(ClaimLostError):
            act()
        assert self.snapshot()[1] == before
        return False

    def repeat_late(self, number: int) -> None:
        """An outcome's script arrives once more, long after: it changes nothing."""
        worker, name, names, args = self.calls[number % len(self.calls)]
        _, before = self.snapshot()
        assert Lanes._run(worker, name, names, args) in ("ok", "lost")
        assert self.snapshot()[1] == before

    def stop_worker(self, number: int) -> None:
        """SIGTERM: another one takes its place; what it holds it may still finish."""
        stopped, self.workers[number] = self.workers[number], self.new_worker()
        stopped.mark_stopping()
        stopped.is_stopping = True
        for worker, claim in self.claims:
            if worker is stopped:
                self.model.stopping(claim)

    # The operator

    def replay(self, event: Event) -> None:
        bot = BotKeys(event.platform, event.app_id)
        answer = self.workers[0].replay(bot, event.trace_id)
        assert answer == self.model.replay(event.trace_id)

    def drop(self, bot: BotKeys, event_ids: Sequence[str]) -> None:
        answer = self.workers[0].drop(bot, event_ids)
        assert answer == sum([self.model.drop(each) for each in event_ids])

    # The time

    def lapse(self, claim: Claim) -> None:
        """15 s passed without a renewal."""
        self.client.hset(LaneKeys(claim.lane).state, "lease", "1")
        self.client.zadd(keys.DUE, {claim.lane: 1})
        self.end_turn(claim)
        self.model.lapsed(claim)

    def end_turn(self, claim: Claim) -> None:
        if self.model.turn == (claim.lane, claim.id):
            self.client.delete(keys.SUSPECT)
            self.model.turn_ended(claim)

    def end_wait(self, lane: Lane) -> None:
        """The time of the head's next try has come."""
        self.client.hset(LaneKeys(lane.name).state, "retry", "1")
        self.client.zadd(keys.DUE, {lane.name: 1})
        lane.head.waits = False

    def pass_a_minute(self) -> None:
        """Conversations may get a notice again; the sweeper's lease ended."""
        noticed = [LaneKeys(f"{each}:inbox").noticed for each in self.model.noticed]
        self.client.delete(keys.SWEEPER, *noticed)
        self.model.noticed.clear()

    def sweep(self, worker: Worker, lanes: Sequence[str]) -> None:
        """The time to look at `lanes` has come; nobody stays due after a sweep."""
        present = [lane for lane in lanes if self.model.lane(lane).entries]
        self.client.zadd(keys.DUE, {**dict.fromkeys(present, 1), "feishu:cli_test:conv:x:inbox": 1})
        before = self.client.llen("process") + self.client.llen("push")
        swept = worker.sweep(lease_ms=HOUR_MS, limit=200)
        if swept is None:
            self.client.zrem(keys.DUE, "feishu:cli_test:conv:x:inbox")
            return
        assert self.client.zcount(keys.DUE, "-inf", 1) == 0
        after = self.client.llen("process") + self.client.llen("push")
        assert (len(present) < swept[0], swept[1]) == (True, after - before)

    def census(self) -> list[Census]:
        found = [Census() for _ in BOTS]
        answer = self._walk(keys=[keys.DUE, *(bot.counts for bot in BOTS)], args=[0, -1])
        for each, walked, counters in zip(found, *answer, strict=True):
            each.add(walked, counters)
        return found
