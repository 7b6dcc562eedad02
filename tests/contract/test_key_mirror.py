"""`lua/_keys.lua` derives from a lane's name what `keys.py` does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import redis

from shared.envelope import PROCESS, PUSH, QUEUES
from shared.state import keys
from shared.state.keys import BotKeys, LaneKeys
from shared.state.scripts import script

LUA = Path(keys.__file__).parent / "lua"
SCRIPTS = sorted(path.stem for path in LUA.glob("*.lua") if not path.stem.startswith("_"))
BOTS = [BotKeys("feishu", "cli_a0"), BotKeys("dingtalk", "ding-x.y_Z")]
CONVERSATIONS = [
    "oc_1",
    "cidAbC+/==",
    "a@b.c",
    "inbox",
    "outbox",
    "x" * 100,
    "x" * 101,
    "",
    "with:colon",
    "with:outbox",
    'quote" \\ $LANE$ {} 群\n',
    "~" * 3,
]

DERIVED = """
return { state_of(ARGV[1]), conversation_of(ARGV[1]), bot_of(ARGV[1]),
  event_of(ARGV[1], ARGV[2]), queue_of(ARGV[1]), counts_of(bot_of(ARGV[1])),
  seen_of(bot_of(ARGV[1]), 20000), usage_of(bot_of(ARGV[1]), 20000), words_of(20000), WAITING,
  told_of(ARGV[1]) }
"""


def derived(client: redis.Redis, lane: str) -> Any:
    return client.eval(script("_keys") + DERIVED, 0, lane, "trace1")


@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize("bot", BOTS, ids=lambda bot: bot.platform)
def test_scripts_and_python_derive_the_same_keys(
    bot: BotKeys, conversation: str, redis_client: redis.Redis
) -> None:
    inbox = bot.inbox(conversation)
    outbox = LaneKeys(inbox).outbox
    for lane, queue in ((inbox, PROCESS), (outbox, PUSH)):
        names = LaneKeys(lane)
        assert derived(redis_client, lane) == [
            names.state,
            bot.conversation(conversation),
            names.bot.prefix,
            names.bot.event("trace1"),
            queue,
            names.bot.counts,
            names.bot.seen(20000),
            names.bot.usage(20000),
            keys.words(20000),
            keys.WAITING,
            names.told,
        ]
        assert names.bot == bot
        assert names.outbox == outbox
        assert names.conversation == bot.conversation(conversation)


def test_conversations_never_share_a_lane() -> None:
    lanes = {bot.inbox(conversation) for bot in BOTS for conversation in CONVERSATIONS}

    assert len(lanes) == len(BOTS) * len(CONVERSATIONS)


def test_every_lane_needs_no_escaping_inside_json() -> None:
    for conversation in CONVERSATIONS:
        assert re.fullmatch(r"[A-Za-z0-9_.=+/@:~-]+", BOTS[0].inbox(conversation))


def test_what_stays_of_a_finished_event_lives_as_long_in_both_languages() -> None:
    assert f"'EX', {keys.FINISHED_TTL_S}" in script("settle")
    assert f"DAY_MS = {keys.FINISHED_TTL_S * 1000}\n" in script("accept")


def test_what_was_used_is_kept_as_long_in_both_languages() -> None:
    assert f"USAGE_TTL_S = {keys.USAGE_DAYS} * 86400\n" in script("write_back")


def test_the_marks_of_notices_are_the_same_in_both_languages(redis_client: redis.Redis) -> None:
    entries = [keys.FAILED_MARK + "trace1", keys.WORKING_MARK + "trace1", "trace1"]
    tell = "\nlocal function tell(e) return { id_of(e), is_notice(e) and 1 or 0 } end\n"
    told = script("_lane") + tell + "return { tell(ARGV[1]), tell(ARGV[2]), tell(ARGV[3]) }"

    assert redis_client.eval(told, 0, *entries) == [["trace1", 1], ["trace1", 1], ["trace1", 0]]
    assert [keys.event_id_of(entry) for entry in entries] == ["trace1"] * 3


def test_the_queues_are_called_the_same_in_both_languages() -> None:
    templates = re.search(r"local TEMPLATE = \{(.*)\}", script("claim"))

    assert templates is not None
    assert tuple(re.findall(r"(\w+) = ARGV", templates[1])) == QUEUES


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_compiles_and_names_its_keys(name: str, redis_client: redis.Redis) -> None:
    text = script(name)

    assert redis_client.script_load(text)
    assert "--@include" not in text
    assert re.search(r"^-- KEYS ", (LUA / f"{name}.lua").read_text("utf-8"), re.MULTILINE)


@pytest.mark.parametrize("name", SCRIPTS)
def test_only_what_takes_work_in_is_refused_by_a_full_redis(name: str) -> None:
    first_line = script(name).partition("\n")[0]

    assert ("allow-oom" in first_line) is (name not in ("accept", "replay"))
