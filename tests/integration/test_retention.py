"""How long dead letters and their texts are kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner

from shared.cli import cli
from shared.messages import Event, Reply
from shared.state.key_ring import DAY_MS
from tests.integration.gateway import environ_for
from tests.integration.lane_worker import SendsTwice
from tests.integration.lanes import BOT, TEMPLATES, Bench, event
from tests.redis_content import content
from tests.redis_server import RedisServer
from workers.retention import LETTERS_PER_TICK, TEXTS_AGAIN_MS, Retention

WORDS = "what somebody wrote"
NOTICE = Reply(("sorry",), kind="notice")


def letter(bench: Bench, age_days: float = 0, *, stage: str = "process") -> Event:
    """A letter that died that long ago."""
    said = event(
        text=WORDS,
        sender_id="ou_ada",
        sender_name="Ada Lovelace",
        reply_address={"staff_id": "staff-7"},
        reply_secret="https://session",
    )
    bench.accept(said)
    if stage == "process":
        bench.lanes.bury(bench.claim(said), "model:401", NOTICE)
    else:
        bench.processed(said, f"an answer to {WORDS}")
        bench.lanes.bury(bench.claim_reply(said), "feishu:230002", None)
    bench.client.zadd(BOT.dead, {said.trace_id: now_ms(bench.client) - age_days * DAY_MS})
    return said


def now_ms(client: redis.Redis) -> int:
    return int(client.time()[0]) * 1000


def retention(bench: Bench, *, letter_days: int = 0, text_days: int = 0) -> Retention:
    return Retention(bench.client, bench.lanes, [BOT], letter_days=letter_days, text_days=text_days)


@pytest.fixture
def run(redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    environ = environ_for(redis_server.url, FEISHU__APP_ID=BOT.app_id)
    return lambda *arguments: CliRunner(env=environ).invoke(cli, arguments, catch_exceptions=False)


@pytest.mark.parametrize("stage", ["process", "push"])
def test_a_letters_text_goes_before_the_letter(
    bench: Bench, redis_server: RedisServer, stage: str
) -> None:
    old, young = letter(bench, 8, stage=stage), letter(bench, 6, stage=stage)

    retention(bench, text_days=7).tick(now_ms(bench.client))

    assert bench.client.zcard(BOT.dead) == 2
    kept = dict(content(redis_server.url))
    for secret in (WORDS, "Ada Lovelace", "staff-7", "https://session"):
        assert secret.encode() not in kept[BOT.event(old.trace_id)]
        assert secret.encode() in kept[BOT.event(young.trace_id)]
    assert b"ou_ada" in kept[BOT.event(old.trace_id)], "forget --user finds it by that"


def test_a_letter_without_text_says_so_and_can_only_be_dropped(run: Any, bench: Bench) -> None:
    old, young = letter(bench, 8), letter(bench, 6)
    retention(bench, text_days=7).tick(now_ms(bench.client))

    shown = run("dead", "show", old.trace_id, "--json")
    replayed = run("dead", "replay", "--all")

    facts = json.loads(shown.stdout)
    assert facts["text"] == "(removed: CLAWDBOT_DEAD_LETTERS__TEXT_DAYS)"
    assert (facts["message_id"], facts["reason"]) == (old.message_id, "model:401")
    assert replayed.exit_code == 1
    assert "replayed 1 of 2" in replayed.output
    assert "CLAWDBOT_DEAD_LETTERS__TEXT_DAYS" in replayed.output
    assert bench.client.zrange(BOT.dead, 0, -1) == [old.trace_id]
    assert run("dead", "drop", "--yes", old.trace_id).exit_code == 0
    assert bench.counts() == {"accepted": 2, "dead": 0, "dropped": 1}
    assert bench.lanes.replay(BOT, old.trace_id) == "not_dead"
    assert bench.lanes.replay(BOT, young.trace_id) == "not_dead"


def test_all_letters_are_looked_at_a_page_a_tick_and_then_once_an_hour(bench: Bench) -> None:
    letters = [letter(bench, 8) for _ in range(LETTERS_PER_TICK + 1)]
    duty, now = retention(bench, text_days=7), now_ms(bench.client)

    def textless() -> int:
        events = (BOT.event(each.trace_id) for each in letters)
        return sum(bool(bench.client.hexists(each, "textless")) for each in events)

    duty.tick(now)
    assert textless() == LETTERS_PER_TICK
    duty.tick(now)
    assert textless() == LETTERS_PER_TICK + 1
    letters.append(letter(bench, 8))
    duty.tick(now + TEXTS_AGAIN_MS - 1)
    assert textless() == LETTERS_PER_TICK + 1
    for _ in range(2):
        duty.tick(now + TEXTS_AGAIN_MS)
    assert textless() == LETTERS_PER_TICK + 2


def test_a_removal_that_is_sent_twice_counts_its_letters_once_and_tells_the_same(
    bench: Bench,
) -> None:
    letters = [letter(bench, 8) for _ in range(3)]
    ids = [each.trace_id for each in letters]
    assert bench.lanes.remove_texts(BOT, ids[:1]) == 1

    twice = SendsTwice(bench.client, owner="w1@host/1", templates=TEMPLATES)

    assert twice.remove_texts(BOT, ids) == 2, "the first one had no text any more"
    assert bench.lanes.remove_texts(BOT, ids) == 0


def test_a_letter_that_never_had_a_text_holds_up_no_other(bench: Bench) -> None:
    """A worker of 0.1.0 makes one of each notice that an answer takes longer."""
    old, ghost = letter(bench, 8), "~3f2a9c0b1d4e5f60718293a4"
    bench.client.hset(BOT.event(ghost), mapping={"dead": 1, "dead_stage": "push"})
    bench.client.zadd(BOT.dead, {ghost: 1})

    retention(bench, text_days=7).tick(now_ms(bench.client))

    assert bench.client.hexists(BOT.event(old.trace_id), "textless")
    assert bench.lanes.replay(BOT, ghost) == "no_text"
    assert bench.lanes.cancel(BOT, [ghost]) == 0
    assert bench.lanes.drop(BOT, [ghost]) == 1


def test_letters_past_their_days_are_dropped_and_nothing_else_is(bench: Bench) -> None:
    old, young = letter(bench, 31), letter(bench, 29)

    retention(bench, letter_days=30).tick(now_ms(bench.client))
    retention(bench).tick(now_ms(bench.client))

    assert bench.client.zrange(BOT.dead, 0, -1) == [young.trace_id]
    assert bench.client.type(BOT.event(old.trace_id)) == "string"
    assert bench.counts() == {"accepted": 2, "dead": 1, "dropped": 1}
