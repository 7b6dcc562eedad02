"""`clawdbot forget --user`: what a person left is gone, others keep theirs, the sums hold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from shared import audit
from shared.cli import cli
from shared.config.groups import Conversation
from shared.errors import ClaimLostError, StateUnavailableError
from shared.messages import Event, Reply
from shared.state import keys
from shared.state.keys import BotKeys, LaneKeys
from tests.integration.gateway import environ_for
from tests.integration.lanes import BOT, Bench, event, inbox, outbox
from tests.redis_content import content
from tests.redis_server import RedisServer
from workers.claim import Claim
from workers.forgetting import PAGE, Person
from workers.usage import Consumers, Usage

ADA, BOB = "ou_ada", "ou_bob"
NOBODY_LOOKS = int  #: called with a number, does nothing


@pytest.fixture
def run(
    redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    monkeypatch.chdir(tmp_path)
    environ = environ_for(redis_server.url, FEISHU__APP_ID=BOT.app_id, TIMEZONE="UTC")

    def clawdbot(*arguments: str) -> Any:
        return CliRunner(env=environ).invoke(cli, arguments, catch_exceptions=False)

    yield clawdbot
    audit.configure("test")


def says(who: str, conversation: str, **more: Any) -> Event:
    return event(conversation, text=f"words of {who}", sender_id=who, sender_name=who, **more)


def write_back(bench: Bench, claim: Claim, said: Event, *, turns: int = 10) -> None:
    """As `process` does: remembered and counted."""
    conversation = Conversation(turns=turns, ttl_s=3600)
    people = Consumers.of(said)
    bench.lanes.write_back(
        claim,
        Reply(("answer",)),
        [f"u{said.text}", "aanswer"],
        usage=Usage(people, prompt_tokens=3, completion_tokens=4, offset_s=0),
        keep=2 * turns,
        ttl_s=conversation.ttl_s,
        writer_ttl_s=conversation.longest_ttl_s,
    )


def answered(bench: Bench, said: Event, *, turns: int = 10) -> Event:
    bench.accept(said)
    write_back(bench, bench.claim(said), said, turns=turns)
    bench.lanes.settle(bench.claim_reply(said), next_part=1, parts=1)
    return said


def buried(bench: Bench, said: Event) -> Event:
    bench.accept(said)
    bench.lanes.bury(bench.claim(said), "model:401", Reply(("sorry",), kind="notice"))
    return said


def person(bench: Bench, who: str = ADA) -> Person:
    return Person(bench.client, bench.lanes, BOT, who)


def keys_that_tell_of(who: str, server: RedisServer) -> list[str]:
    return [key for key, value in content(server.url) if who.encode() in value]


def kept_of_bot(server: RedisServer) -> dict[str, list[bytes]]:
    """Everything under the bot's name; sets and hashes have no order."""
    kept = dict(content(server.url))
    return {k: sorted(value.splitlines()) for k, value in kept.items() if k.startswith(BOT.prefix)}


def check_conservation(run: Any) -> dict[str, Any]:
    """`clawdbot queue` finds every event accounted for."""
    result = run("queue", "--json")
    assert result.exit_code == 0, result.output
    facts: dict[str, Any] = json.loads(result.stdout)["bots"][BOT.prefix]
    assert facts["imbalance"] == 0
    return facts


def test_nothing_of_the_person_is_left_and_nothing_of_the_others_is_lost(
    run: Any, bench: Bench, redis_server: RedisServer
) -> None:
    answered(bench, says(ADA, "oc_ada"))
    buried(bench, says(ADA, "oc_ada"))
    bench.accept(says(ADA, "oc_ada"), says(ADA, "oc_group", is_group=True))
    bench.client.hset(BOT.quota("user", ADA), "m1", "1 0")
    answered(bench, says(BOB, "oc_bob"))
    waiting, dead = says(BOB, "oc_bob"), buried(bench, says(BOB, "oc_bob2"))
    bench.accept(waiting)

    result = run("forget", "--user", ADA, "--yes", "--json")

    assert json.loads(result.stdout)[BOT.prefix] == {
        "unfinished": 2,
        "letters": 1,
        "private": 1,
        "groups": 0,
        "usage_days": 1,
        "quotas": 1,
    }
    assert keys_that_tell_of(ADA, redis_server) == []
    facts = check_conservation(run)
    assert facts["counts"]["cancelled"] == 2
    assert bench.client.exists(BOT.event(dead.trace_id), inbox(waiting)) == 2
    assert bench.client.llen(LaneKeys(inbox(waiting)).history) == 2


def test_it_may_be_done_again(run: Any, bench: Bench, redis_server: RedisServer) -> None:
    answered(bench, says(ADA, "oc_ada"))
    bench.accept(says(ADA, "oc_ada"))
    run("forget", "--user", ADA, "--yes")
    before = kept_of_bot(redis_server)

    again = json.loads(run("forget", "--user", ADA, "--yes", "--json").stdout)[BOT.prefix]

    assert set(again.values()) == {0}
    assert kept_of_bot(redis_server) == before


def test_sums_stay_and_lose_the_name(run: Any, bench: Bench) -> None:
    answered(bench, says(ADA, "oc_ada"))
    answered(bench, says(BOB, "oc_bob"))
    before = json.loads(run("usage", "--by", "bot", "--json").stdout)
    assert [row["requests"] for row in before] == [2]

    run("forget", "--user", ADA, "--yes")

    assert json.loads(run("usage", "--by", "bot", "--json").stdout) == before
    people = [row["consumer"] for row in json.loads(run("usage", "--json").stdout)]
    assert people == [BOB, "(others)"]


def test_a_groups_history_is_left_with_a_word_unless_it_is_asked_for(
    run: Any, bench: Bench, redis_server: RedisServer
) -> None:
    said = answered(bench, says(ADA, "oc_group", is_group=True))
    answered(bench, says(BOB, "oc_group", is_group=True))
    history = LaneKeys(inbox(said)).history

    first = run("forget", "--user", ADA, "--yes").output
    assert "repeat with --groups" in first
    assert bench.client.llen(history) == 4

    second = run("forget", "--user", ADA, "--yes", "--groups").output
    assert "1 groups with a history" in second
    assert bench.client.exists(history) == 0
    assert keys_that_tell_of(ADA, redis_server) == []


def test_an_answer_under_way_is_dropped_and_the_lane_goes_on(run: Any, bench: Bench) -> None:
    mine, theirs = (says(who, "oc_group", is_group=True) for who in (ADA, BOB))
    bench.accept(mine, theirs)
    claim = bench.claim(mine)
    hints = bench.hints("process")

    run("forget", "--user", ADA, "--yes")

    with pytest.raises(ClaimLostError):
        write_back(bench, claim, mine)
    assert bench.hints("process") == hints + 1
    assert bench.claim(theirs).event_id == theirs.trace_id
    assert check_conservation(run)["in_flight"] == 1


def test_a_reply_that_waits_for_its_push_is_taken_out_of_the_middle(run: Any, bench: Bench) -> None:
    said = [says(who, "oc_group", is_group=True) for who in (BOB, ADA, BOB)]
    bench.accept(*said)
    for each in said:
        write_back(bench, bench.claim(each), each)
    sending = bench.claim_reply(said[0])

    run("forget", "--user", ADA, "--yes")

    assert bench.client.lrange(outbox(said[0]), 0, -1) == [said[0].trace_id, said[2].trace_id]
    bench.lanes.settle(sending, next_part=1, parts=1)
    assert check_conservation(run)["in_flight"] == 1


def test_what_an_event_had_reserved_of_a_quota_is_given_back(run: Any, bench: Bench) -> None:
    said = says(ADA, "oc_ada")
    bench.accept(said)
    account = BOT.quota("bot", BOT.app_id)
    bench.lanes.admit(bench.claim(said), {account: (0, 0, 0, 1000)}, tokens=50, offset_s=0)

    run("forget", "--user", ADA, "--yes")

    assert set(bench.client.hvals(account)) == {"1 0"}


def test_who_waits_for_a_word_is_told_nothing_any_more(run: Any, bench: Bench) -> None:
    bench.accept(says(ADA, "oc_ada"), notice_after_ms=60_000)

    run("forget", "--user", ADA, "--yes")

    assert bench.client.exists(keys.WAITING) == 0


def test_a_group_is_found_as_long_as_a_word_of_theirs_is_in_its_history(bench: Bench) -> None:
    turns = 3
    mine = answered(bench, says(ADA, "oc_group", is_group=True), turns=turns)
    talks, history = BOT.talks(ADA), LaneKeys(inbox(mine)).history
    known_s = bench.client.ttl(talks)
    remembered_s = 0
    while f"uwords of {ADA}" in bench.client.lrange(history, 0, -1):
        remembered_s += bench.client.ttl(history)  # and just then others go on
        answered(bench, says(BOB, "oc_group", is_group=True), turns=turns)

    assert bench.client.smembers(talks) == {f"g{inbox(mine)}"}
    assert known_s == pytest.approx(remembered_s, abs=10)


def test_a_conversation_whose_history_has_ended_is_not_counted(run: Any, bench: Bench) -> None:
    said = answered(bench, says(ADA, "oc_ada"))
    bench.client.delete(LaneKeys(inbox(said)).history)  # as its time does

    assert person(bench).traces(NOBODY_LOOKS).private == 0
    run("forget", "--user", ADA, "--yes")
    assert bench.client.exists(BOT.talks(ADA)) == 0


def test_many_lanes_and_letters_are_looked_through_in_pages(run: Any, bench: Bench) -> None:
    for first in range(0, 3 * PAGE, 50):
        bench.accept(*(says(BOB, f"oc_{n}") for n in range(first, first + 50)))
    for number in range(PAGE + 20):
        buried(bench, says(ADA if number % 2 else BOB, f"oc_dead{number}"))
    bench.accept(says(ADA, "oc_7", is_group=True))
    looks: list[int] = []

    found = person(bench).traces(looks.append)

    assert (found.unfinished, found.letters) == (1, PAGE // 2 + 10)
    assert sum(looks) >= 4 * PAGE
    assert person(bench).erase(NOBODY_LOOKS, with_groups=False).letters == found.letters
    assert check_conservation(run)["counts"]["dead"] == PAGE // 2 + 10


def test_another_bots_events_are_not_touched(run: Any, bench: Bench) -> None:
    other = BotKeys("dingtalk", "dingtest1")
    bench.accept(says(ADA, "oc_ada"))

    answer = json.loads(
        run("forget", "--user", ADA, "--bot", other.prefix, "--yes", "--json").stdout
    )

    assert list(answer) == [other.prefix]
    assert check_conservation(run)["in_flight"] == 1


def test_the_audit_trail_says_that_somebody_was_forgotten_but_not_who(
    run: Any, bench: Bench
) -> None:
    bench.accept(says(ADA, "oc_ada"))
    run("forget", "--user", ADA, "--yes")

    (action,) = [
        a
        for a in json.loads(run("audit", "report", "--json").stdout)["latest"]
        if a["facts"]["bot"] == BOT.prefix
    ]

    assert action["action"] == "person.forgotten"
    assert action["facts"]["person"] == person(bench).alias
    assert action["facts"]["complete"]
    assert ADA not in json.dumps(action)


def test_an_erasure_cut_short_is_in_the_trail_as_one(run: Any, bench: Bench) -> None:
    bench.accept(says(ADA, "oc_ada"))
    bench.client.set(BOT.talks(ADA), "no set: the step that reads it fails")

    with pytest.raises(StateUnavailableError):
        run("forget", "--user", ADA, "--yes", "--bot", BOT.prefix)

    (action,) = json.loads(run("audit", "report", "--json").stdout)["latest"]
    assert action["action"] == "person.forgotten"
    assert action["facts"]["complete"] is False


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--user", ADA], "--yes"),
        (["--user", " ", "--yes"], "empty"),
        (["--user", ADA, "--yes", "--bot", "feishu:none"], "there is no bot"),
        (["--yes"], "--user"),
    ],
)
def test_what_can_not_be_meant_is_refused(run: Any, arguments: list[str], words: str) -> None:
    result = run("forget", *arguments)

    assert result.exit_code == 2
    assert words in result.output
