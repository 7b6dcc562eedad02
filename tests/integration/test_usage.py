"""What was used: counted with the answer, once; bounded; shown by `clawdbot usage`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from shared.cli import cli
from shared.messages import Reply
from shared.state.keys import USAGE_DAYS, BotKeys
from tests.integration.gateway import environ_for
from tests.integration.lanes import BOT, Bench, event
from tests.redis_server import RedisServer
from workers.claim import Claim
from workers.usage import Consumers, Usage

ABOUT = "<user|group|tenant>:<id> = requests, tokens of prompts, tokens of answers; summed up"
MOST_FIELDS = 2000
DAY_S = 86_400
UTC = {"TIMEZONE": "UTC"}


def used(user: str, prompt: int = 10, completion: int = 5, **more: Any) -> Usage:
    group, tenant = more.pop("group", "oc_g"), more.pop("tenant", "t1")
    return Usage(
        Consumers(user, group, BOT.app_id, tenant), prompt, completion, more.pop("offset_s", 0)
    )


def answer(bench: Bench, usage: Usage, *, times: int = 1) -> Claim:
    """An answered event; its write-back sent `times` times."""
    first = event()
    bench.accept(first)
    claim = bench.claim(first)
    for _ in range(times):
        bench.lanes.write_back(claim, Reply(("a",)), ["q", "a"], usage=usage, keep=2, ttl_s=60)
    return claim


def today(bench: Bench, offset_s: int = 0) -> str:
    seconds, _ = bench.client.time()
    return BOT.usage(int(seconds + offset_s) // DAY_S)


def test_an_answered_event_is_counted_for_each_of_its_consumers_once(bench: Bench) -> None:
    answer(bench, used("ou_1", 100, 20), times=3)
    answer(bench, used("ou_2", 1, 2, group=""))

    assert bench.client.hgetall(today(bench)) == {
        "user:ou_1": "1 100 20",
        "user:ou_2": "1 1 2",
        "group:oc_g": "1 100 20",
        "tenant:t1": "2 101 22",
        "about": ABOUT,
    }


def test_what_is_rejected_or_dies_used_nothing(bench: Bench) -> None:
    for end in (bench.lanes.reject, bench.lanes.bury):
        first = event()
        bench.accept(first)
        end(bench.claim(first), "why", Reply(("no",), kind="notice"))

    assert not bench.client.exists(today(bench))


def test_days_are_local_and_forgotten_in_time(bench: Bench) -> None:
    answer(bench, used("ou_1", offset_s=2 * DAY_S))

    key = today(bench, 2 * DAY_S)
    assert USAGE_DAYS * DAY_S - 60 < bench.client.ttl(key) <= USAGE_DAYS * DAY_S


def fill(bench: Bench, users: int) -> None:
    """So many people with 2 requests of 2 tokens each."""
    many = {f"user:ou_{number:032d}": "2 2 2" for number in range(users)}
    bench.client.hset(today(bench), mapping=many)


def test_a_bot_with_many_users_keeps_the_heavy_ones_and_every_sum(bench: Bench) -> None:
    answer(bench, used("ou_heavy", 1000, 1000))
    fill(bench, MOST_FIELDS - 4)

    answer(bench, used("ou_new", 1, 1))

    day = bench.client.hgetall(today(bench))
    users = {field: value.split() for field, value in day.items() if field.startswith("user:")}
    assert len(day) <= MOST_FIELDS // 2 + 4
    assert day["user:ou_heavy"] == "1 1000 1000"
    assert "user:ou_new" not in day
    assert int(users["user:"][0]) > MOST_FIELDS / 2
    assert [sum(int(sums[i]) for sums in users.values()) for i in range(3)] == [
        2 * (MOST_FIELDS - 4) + 2,
        2 * (MOST_FIELDS - 4) + 1001,
        2 * (MOST_FIELDS - 4) + 1001,
    ]


def test_a_day_is_a_table_from_the_start(bench: Bench) -> None:
    """A look-up in a long list of Redis's would cost more than all the rest of a write-back."""
    answer(bench, used("ou_1"))

    assert bench.client.object("encoding", today(bench)) == "hashtable"


def test_a_day_of_one_bot_takes_a_quarter_of_a_mebibyte_at_most(bench: Bench) -> None:
    fill(bench, MOST_FIELDS)

    assert bench.client.memory_usage(today(bench), samples=0) < 256 * 1024


# clawdbot usage


@pytest.fixture
def environ(
    redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    monkeypatch.chdir(tmp_path)  # no `.env` lies there
    return environ_for(redis_server.url, FEISHU__APP_ID=BOT.app_id, **UTC)


def run(environ: dict[str, str], *arguments: str) -> Result:
    return CliRunner(env=environ).invoke(cli, ["usage", *arguments], catch_exceptions=False)


def rows(environ: dict[str, str], *arguments: str) -> list[tuple[str, int, int]]:
    """Consumer, requests, tokens."""
    found = json.loads(run(environ, *arguments, "--json").output)
    return [(row["consumer"], row["requests"], row["tokens"]) for row in found]


def test_the_top_consumers_come_first(environ: dict[str, str], bench: Bench) -> None:
    for user, tokens in (("ou_small", 1), ("ou_big", 500), ("ou_big", 500), ("ou_mid", 90)):
        answer(bench, used(user, tokens, 10))

    assert rows(environ) == [("ou_big", 2, 1020), ("ou_mid", 1, 100), ("ou_small", 1, 11)]
    assert rows(environ, "--top", "1") == [("ou_big", 2, 1020)]
    assert rows(environ, "--by", "group") == [("oc_g", 4, 1131)]
    assert rows(environ, "--by", "tenant") == [("t1", 4, 1131)]
    assert rows(environ, "--by", "bot") == [("feishu", 4, 1131)]


def test_days_are_summed_up_and_older_ones_left_out(environ: dict[str, str], bench: Bench) -> None:
    for days_ago in range(3):
        answer(bench, used("ou_1", offset_s=-days_ago * DAY_S))

    assert rows(environ) == [("ou_1", 1, 15)]
    assert rows(environ, "--days", "2") == [("ou_1", 2, 30)]
    assert rows(environ, "--days", "40") == [("ou_1", 3, 45)]


def test_a_bot_is_chosen_by_its_name_or_app_id(environ: dict[str, str], bench: Bench) -> None:
    answer(bench, used("ou_1"))
    other = BotKeys("dingtalk", environ["CLAWDBOT_DINGTALK__APP_KEY"])
    bench.client.hset(other.usage(int(bench.client.time()[0]) // DAY_S), "user:$:x:y", "3 4 5")

    assert rows(environ) == [("ou_1", 1, 15), ("$:x:y", 3, 9)]
    assert rows(environ, "--bot", "dingtalk") == [("$:x:y", 3, 9)]
    assert rows(environ, "--bot", BOT.app_id) == [("ou_1", 1, 15)]
    unknown = run(environ, "--bot", "nobody")
    assert unknown.exit_code == 1
    assert "--bot nobody: there is no such bot; the bots are: dingtalk, feishu" in unknown.output


def test_who_is_counted_together_comes_last(environ: dict[str, str], bench: Bench) -> None:
    answer(bench, used("ou_1"))
    bench.client.hset(today(bench), "user:", "900 900 900")

    assert rows(environ) == [("ou_1", 1, 15), ("(others)", 900, 1800)]


def test_a_person_reads_a_table(environ: dict[str, str], bench: Bench) -> None:
    assert run(environ).output == "nothing was used\n"
    answer(bench, used("ou_1", 1200, 34))

    head, line = run(environ).output.splitlines()

    assert head.split() == ["requests", "prompt", "answer", "tokens", "consumer"]
    assert line.split() == ["1", "1200", "34", "1234", "ou_1", f"({BOT.prefix})"]
