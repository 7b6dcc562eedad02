"""A real ingress process under hostile calls: it stays calm, and honest calls get in."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import redis

from shared.messages import Event, Part, digest
from shared.platforms import PLATFORMS as REGISTRY
from shared.platforms import load
from shared.platforms.base import Outbound
from shared.vault import Vault
from tests.hostile import hosts
from tests.hostile.corpus import FAMILIES, PLATFORMS, cases
from tests.hostile.siege import BOTS, Siege, memory_mib
from tests.hostile.slow import outcomes, slow_senders
from tests.integration.gateway import environ_for, settings_for
from tests.integration.ingress_process import IngressProcess, assert_calm
from tests.redis_server import RedisServer, free_port

pytestmark = pytest.mark.timeout(300)  # a family has up to 1600 calls, and the machine may be busy

AT_LEAST = 300
ANY_REDIS = "redis://127.0.0.1:9/0"
MEMORY_MIB = 150  #: what the process may grow by, over all
FLOOD = 100  #: connections at once


@pytest.fixture(scope="module")
def process(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[IngressProcess]:
    changes = {"PORT": str(free_port()), "HOST": "127.0.0.1"}
    rates = {"SECURITY__QPS": "100000", "SECURITY__ADDRESS_QPS": "1000000"}
    environ = environ_for(redis_server.url, **changes, **rates)
    made = IngressProcess(tmp_path_factory.mktemp("siege"), {**environ, "LOG_LEVEL": "DEBUG"})
    before = memory_mib(made.pid)
    yield made
    grown = memory_mib(made.pid) - before
    assert made.stop() == 0
    assert_calm(made.log.read_text("utf-8"))
    assert grown < MEMORY_MIB


@pytest.fixture
def siege(process: IngressProcess, redis_client: redis.Redis) -> Siege:
    return Siege(process.port, redis_client)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_corpus_is_large_and_every_case_has_a_name(platform: str) -> None:
    names = [
        f"{family}: {case.name}"
        for of, family in FAMILIES
        if of == platform
        for case in cases(platform, family)
    ]

    assert [name for name, times in Counter(names).items() if times > 1] == []
    assert len(names) >= AT_LEAST


@pytest.mark.parametrize(("platform", "family"), FAMILIES)
async def test_hostile_calls_leave_nothing_and_honest_ones_get_in(
    platform: str, family: str, siege: Siege
) -> None:
    faults = await siege.faults(platform, cases(platform, family))

    assert faults == [], "\n".join(faults)


async def test_slow_senders_are_left_and_honest_calls_get_in_meanwhile(
    process: IngressProcess, siege: Siege
) -> None:
    senders = [sender for platform in PLATFORMS for sender in slow_senders(platform)]
    slow = asyncio.create_task(outcomes(process.port, senders))
    honest = []
    while not slow.done():
        honest += [fault for platform in PLATFORMS for fault in await siege.honest_faults(platform)]
        await asyncio.wait([slow], timeout=0.5)

    assert await slow == []
    assert honest == []
    good = sum(sender.is_good_at_first for sender in senders)
    assert sum(map(siege.events, PLATFORMS)) == siege.honest_calls + good


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_a_flood_of_headers_keeps_no_honest_call_out(platform: str, siege: Siege) -> None:
    flood = b"POST /feishu/webhook HTTP/1.1\r\nHost: x\r\n" + b"X-A: bbbbbbbb\r\n" * 2_000
    under_way = [asyncio.create_task(siege.exchange(flood)) for _ in range(FLOOD)]

    assert await siege.honest_faults(platform) == []
    await asyncio.gather(*under_way)
    assert await siege.honest_faults(platform) == []


def recorded(client: redis.Redis, platform: str, message_id: str) -> tuple[Event, Outbound]:
    """An event as a worker reads it, and the room that will answer it."""
    (bot,) = [b for b in settings_for(ANY_REDIS).all_bots() if b.platform == platform]
    keys = BOTS[platform]
    vault = Vault.for_bot([], bot.settings.sealing_secrets, keys.prefix)
    wire = client.hget(keys.event(digest(platform, keys.app_id, message_id)), "event")
    return Event.from_wire(wire, vault.open), load(REGISTRY[platform].outbound)(bot.settings)


async def test_no_answer_is_posted_where_a_hostile_message_wants_it(
    siege: Siege, redis_client: redis.Redis
) -> None:
    wanted = list(hosts.session_webhooks())
    assert await siege.faults("dingtalk", (case for _, _, case in wanted)) == []

    followed = []
    for message_id, url, _ in wanted:
        event, outbound = recorded(redis_client, "dingtalk", message_id)
        routes = outbound.routes(event.reply_address, event.reply_secret, now=0)
        if [route.name for route in routes] != ["robot"]:
            followed.append(url)
    assert followed == []


async def test_a_message_id_stays_one_step_of_the_path_it_is_answered_by(
    siege: Siege, redis_client: redis.Redis
) -> None:
    steps = list(hosts.steps())
    assert await siege.faults("feishu", (case for _, case in steps)) == []

    for message_id, case in steps:
        if not case.events:
            continue
        event, outbound = recorded(redis_client, "feishu", message_id)
        (route,) = outbound.routes(event.reply_address, event.reply_secret, now=0)
        part = Part("hello", "key", event.reply_address)
        url = urlsplit(outbound.reply_request(route, part, "token").url)
        base = urlsplit(settings_for(ANY_REDIS).feishu.api_base)
        assert (url.scheme, url.netloc, url.query, url.fragment) == (*base[:2], "", "")
        *start, step, end = url.path.split("/")
        assert "/".join(start) == f"{base.path}/open-apis/im/v1/messages"
        assert (end, step in (".", "..")) == ("reply", False)
