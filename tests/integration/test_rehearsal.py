"""A rehearsal in both stages: the whole way, and nobody hears, pays for or remembers it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import redis

from ingress.bots import build_bots
from shared import rehearsal
from shared.config import Bot
from shared.config.live import Live
from shared.messages import Event
from shared.platforms.settings import reveal
from shared.state import keys
from shared.state.keys import BotKeys, LaneKeys
from shared.state.scripts import script
from tests.integration.gateway import settings_for, simulator
from tests.integration.lanes import TEMPLATES
from tests.redis_server import RedisServer, free_port
from tests.simulator.world import World
from workers.metrics import Metrics
from workers.ops.doctor.checks.signatures import caller_of
from workers.runtime import Runtime

NAME = f"{rehearsal.PREFIX}1"


class Stage:
    """One bot's messages, from accept to the end."""

    def __init__(self, bot: Bot, runtime: Runtime, client: redis.Redis, wire: str) -> None:
        self.keys = BotKeys(bot.platform, bot.app_id)
        self.client = client
        self.lane = self.keys.inbox(NAME)
        self._runtime = runtime
        accept = client.register_script(script("accept"))
        names = [keys.DUE, keys.HINTS, keys.SUSPECT, keys.SUSPECTS, keys.ACTIVE, self.lane]
        limits = [*TEMPLATES, "ingress", 0, keys.QPS_PREFIX, 10_000, 200]
        self.trace_id = Event(bot.platform, bot.app_id, NAME, "", NAME, "").trace_id
        assert accept(keys=names, args=[*limits, self.trace_id, "", wire, 0]) == ["accepted"]

    def process(self) -> None:
        self._runtime.process.run(self.lane, 1)

    def push(self) -> None:
        self._runtime.push.run(LaneKeys(self.lane).outbox, 1)

    def counts(self) -> dict[str, int]:
        return {name: int(n) for name, n in self.client.hgetall(self.keys.counts).items()}

    def record(self) -> dict[str, str]:
        found: dict[str, str] = self.client.hgetall(self.keys.event(self.trace_id))
        return found


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with simulator(free_port()) as made:
        yield made


@pytest.fixture(params=["dingtalk", "feishu"])
def platform(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Theatre:
    """Puts rehearsals, true and false ones, before the stages of a worker."""

    def __init__(self, redis_url: str, client: redis.Redis, world: World, platform: str) -> None:
        quota = {"QUOTAS__BOT__REQUESTS_PER_DAY": "1"}
        self.settings = settings_for(redis_url, world.base_url, **quota)
        self.runtime = Runtime(Live(self.settings), "w1@host/1", 2, Metrics())
        self.client = client
        self.bot = next(b for b in self.settings.all_bots() if b.platform == platform)

    def proof(self, name: str = NAME, *, master_key: str = "") -> str:
        secrets = self.bot.settings.sealing_secrets
        prefix = BotKeys(self.bot.platform, self.bot.app_id).prefix
        masters = (master_key,) if master_key else reveal(self.settings.master_key)
        return rehearsal.proof(rehearsal.rehearsal_vault(masters, secrets, prefix), name)

    def put_on(self, text: str) -> Stage:
        """A call of the doctor, taken in."""
        request = caller_of(self.bot).message(
            text, message_id=NAME, conversation_id=NAME, now=time.time(), nonce=bytes(16)
        )
        receiver = build_bots(self.settings)[self.bot.platform, "default"]
        event = receiver.inbound.receive(request, now=time.time())
        assert isinstance(event, Event)
        return Stage(self.bot, self.runtime, self.client, receiver.wire(event))


@pytest.fixture
def theatre(
    redis_server: RedisServer, redis_client: redis.Redis, world: World, platform: str
) -> Iterator[Theatre]:
    made = Theatre(redis_server.url, redis_client, world, platform)
    yield made
    made.runtime.redis.connection_pool.disconnect()
    world.ledger.reset()


def test_it_goes_the_whole_way_and_nobody_outside_hears_of_it(
    theatre: Theatre, world: World
) -> None:
    stage = theatre.put_on(theatre.proof())
    stage.process()
    assert rehearsal.REPLY in stage.record()["reply"]
    stage.push()

    assert stage.counts() == {"accepted": 1, "answered": 1}
    assert world.ledger.since(0) == []
    assert stage.client.zcard(keys.DUE) == 0


def test_it_is_counted_for_nobody_and_remembered_by_nobody(theatre: Theatre) -> None:
    stage = theatre.put_on(theatre.proof())
    stage.process()
    stage.push()

    left = set(stage.client.scan_iter(f"{stage.keys.prefix}:*"))
    assert left == {stage.keys.counts, stage.keys.event(stage.trace_id)}


FORGERIES = ["for_another_message", "with_another_key", "without_any"]


@pytest.mark.parametrize("forgery", FORGERIES)
def test_without_its_proof_it_dies_before_model_and_platform(
    forgery: str, theatre: Theatre, world: World
) -> None:
    text = {
        "for_another_message": theatre.proof(f"{NAME}0"),
        "with_another_key": theatre.proof(master_key="somebody else's master key"),
        "without_any": "a person's own words",
    }[forgery]
    stage = theatre.put_on(text)
    stage.process()
    stage.push()  # the notice of its death

    assert stage.counts() == {"accepted": 1, "dead": 1}
    assert stage.record()["dead_reason"].startswith(("rehearsal:unproved", "vault:unreadable"))
    assert world.ledger.since(0) == []


def test_the_bots_other_seals_are_no_proof(theatre: Theatre) -> None:
    receiver = build_bots(theatre.settings)[theatre.bot.platform, "default"]
    stage = theatre.put_on(receiver.vault.seal(NAME))
    stage.process()

    assert stage.counts()["dead"] == 1


def test_the_words_that_it_takes_longer_reach_nobody_either(theatre: Theatre, world: World) -> None:
    stage = theatre.put_on(theatre.proof())
    stage.client.zadd(keys.WAITING, {stage.keys.event(stage.trace_id): 1})
    assert theatre.runtime.lanes.tell_waiting(limit=1) == (1, 1)
    stage.push()
    stage.process()
    stage.push()

    assert stage.counts() == {"accepted": 1, "answered": 1}
    assert world.ledger.since(0) == []
