"""`clawdbot …` against a real Redis: what an operator's runbook relies on."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from shared.cli import cli, main
from shared.messages import Event, Reply
from shared.state import keys
from tests.integration.gateway import environ_for
from tests.integration.lanes import BOT, USAGE, Bench, event, inbox, outbox
from tests.integration.terminal import on_terminal
from tests.redis_server import RedisServer, free_port

NOTICE = Reply(("sorry",), kind="notice")
QUOTA = "quota of user: requests_per_day"


class Operator:
    """Somebody at a terminal that is none, as in a script."""

    def __init__(self, environ: dict[str, str]) -> None:
        self.environ = environ
        self._runner = CliRunner(env=environ)

    def run(self, *arguments: str) -> Result:
        return self._runner.invoke(cli, arguments, catch_exceptions=False)

    def told(self, *arguments: str) -> str:
        """The output of a command that works."""
        result = self.run(*arguments)
        assert result.exit_code == 0, result.output
        return result.output

    def json(self, *arguments: str) -> Any:
        return json.loads(self.told(*arguments, "--json"))


@pytest.fixture
def environ(
    redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    monkeypatch.chdir(tmp_path)  # no `.env` lies there
    return environ_for(redis_server.url, FEISHU__APP_ID=BOT.app_id)


@pytest.fixture
def operator(environ: dict[str, str]) -> Operator:
    return Operator(environ)


def killed(bench: Bench, conversation: str = "oc_1", why: str = "model:401: wrong key") -> Event:
    """An event that died in `process`."""
    first = event(conversation, text=f"words of {conversation}", sender_name="Ada")
    bench.accept(first)
    bench.lanes.bury(bench.claim(first), why, None)
    return first


def answered(bench: Bench) -> Event:
    first = event("answered")
    bench.accept(first)
    bench.processed(first)
    bench.lanes.settle(bench.claim_reply(first), next_part=1, parts=1)
    return first


def test_dead_list_shows_the_newest_first_with_stage_and_reason(
    operator: Operator, bench: Bench
) -> None:
    assert operator.told("dead", "list") == "no dead letters\n"
    older, newer = killed(bench, "a"), killed(bench, "b", "feishu:230002: not in the chat")
    bench.client.zadd(BOT.dead, {older.trace_id: 1})

    lines = operator.told("dead", "list").splitlines()

    assert [line.split()[0] for line in lines] == [newer.trace_id, older.trace_id]
    assert lines[0].endswith("process  feishu:230002: not in the chat")
    assert operator.told("dead", "list", "--limit", "1").splitlines() == lines[:1]


def test_dead_list_shows_on_a_terminal_how_far_it_is(operator: Operator, bench: Bench) -> None:
    letters = 60
    bench.client.zadd(BOT.dead, {f"{number:024x}": number for number in range(1, letters + 1)})

    shown = on_terminal(operator.environ, "dead", "list", "--limit", str(letters))

    assert "reading" in shown
    assert "100%" in shown
    assert f"{letters:024x}" in shown


def test_dead_list_for_programs_names_bot_and_message(operator: Operator, bench: Bench) -> None:
    assert operator.json("dead", "list") == []
    first = killed(bench)

    (letter,) = operator.json("dead", "list")

    assert letter["trace_id"] == first.trace_id
    assert letter["bot"] == BOT.prefix
    assert letter["message_id"] == first.message_id


@pytest.mark.parametrize("limit", ["0", "-1"])
def test_dead_list_of_no_letters_is_refused(limit: str, operator: Operator, bench: Bench) -> None:
    killed(bench)

    result = operator.run("dead", "list", "--limit", limit)

    assert result.exit_code == 2
    assert "--limit" in result.output


@pytest.mark.parametrize("by", ["trace_id", "message_id"])
def test_dead_show_has_the_message_the_reason_and_the_history(
    by: str, operator: Operator, bench: Bench
) -> None:
    first = event(text="what I wrote", sender_name="Ada")
    bench.accept(first)
    bench.lanes.retry(bench.claim(first), 0, "model:503: busy")
    bench.lanes.bury(bench.claim(first), "model:401: wrong key", None)

    shown = operator.told("dead", "show", getattr(first, by))

    for words in (
        "what I wrote",
        "Ada",
        "attempt 1 by w1@host: model:503: busy",
        "model:401: wrong key",
    ):
        assert words in shown
    letter = operator.json("dead", "show", getattr(first, by))
    assert letter["steps"][0]["what"] == "accepted"


def test_dead_show_of_a_live_or_unknown_event_says_so(operator: Operator, bench: Bench) -> None:
    first = event()
    bench.accept(first)

    live, unknown = operator.run("dead", "show", first.trace_id), operator.run("dead", "show", "x")

    assert (live.exit_code, unknown.exit_code) == (1, 1)
    assert "is not dead but waiting for the model" in live.output
    assert "no such event" in unknown.output


def test_dead_replay_puts_a_letter_back_once(operator: Operator, bench: Bench) -> None:
    first = killed(bench)

    assert operator.told("dead", "replay", first.trace_id) == "replayed 1 of 1\n"
    again = operator.run("dead", "replay", first.trace_id)

    assert bench.client.lrange(inbox(first), 0, -1) == [first.trace_id]
    assert bench.counts()["dead"] == 0
    assert again.exit_code == 1
    assert "not dead" in again.output


def test_dead_replay_all_takes_every_letter(operator: Operator, bench: Bench) -> None:
    for conversation in "abc":
        killed(bench, conversation)

    assert operator.told("dead", "replay", "--all") == "replayed 3 of 3\n"
    assert operator.told("dead", "list") == "no dead letters\n"


def test_what_was_answered_is_not_replayed(operator: Operator, bench: Bench) -> None:
    done = answered(bench)

    result = operator.run("dead", "replay", done.trace_id)

    assert result.exit_code == 1
    assert not bench.client.exists(inbox(done), outbox(done))


def test_dead_drop_wants_a_yes_where_nobody_can_be_asked(operator: Operator, bench: Bench) -> None:
    first = killed(bench)

    refused = operator.run("dead", "drop", first.trace_id)

    assert refused.exit_code == 2
    assert "--yes" in refused.output
    assert bench.counts()["dead"] == 1
    assert operator.told("dead", "drop", "--yes", first.trace_id) == "dropped 1 of 1\n"
    assert bench.counts() == {"accepted": 1, "dead": 0, "dropped": 1}


def test_dead_drop_all(operator: Operator, bench: Bench) -> None:
    for conversation in "abc":
        killed(bench, conversation)

    assert operator.told("dead", "drop", "--all", "--yes") == "dropped 3 of 3\n"


@pytest.mark.parametrize(
    ("command", "done", "more"),
    [(["replay"], "replayed", {"without_text": []}), (["drop", "--yes"], "dropped", {})],
)
def test_programs_are_told_which_letters_were_there(
    command: list[str], done: str, more: dict[str, Any], operator: Operator, bench: Bench
) -> None:
    letter, other = killed(bench), answered(bench)
    names = [letter.trace_id, other.trace_id, letter.trace_id]

    result = operator.run("dead", *command, "--json", *names)

    assert result.exit_code == 1
    told = {done: [letter.trace_id], "not_dead": [other.trace_id], **more}
    assert json.loads(result.stdout) == told
    assert "not dead" in result.stderr


@pytest.mark.parametrize("command", ["replay", "drop"])
@pytest.mark.parametrize("arguments", [[], ["--all", "some-event"]])
def test_letters_are_named_or_all_are_meant(
    command: str, arguments: list[str], operator: Operator, bench: Bench
) -> None:
    result = operator.run("dead", command, *arguments)

    assert result.exit_code == 2
    assert "name events, or give --all" in result.output


def waiting(bench: Bench) -> Event:
    first = event()
    bench.accept(first)
    return first


def retried(bench: Bench) -> Event:
    first = waiting(bench)
    bench.lanes.retry(bench.claim(first), 3600, "model:503: busy")
    return first


def written(bench: Bench) -> Event:
    first = waiting(bench)
    bench.processed(first)
    return first


def rejected(bench: Bench) -> Event:
    first = waiting(bench)
    bench.lanes.reject(bench.claim(first), QUOTA, NOTICE)
    return first


def told_of_it(bench: Bench) -> Event:
    first = rejected(bench)
    bench.lanes.settle(bench.claim_reply(first), next_part=1, parts=1)
    return first


def rejected_again(bench: Bench) -> Event:
    rejected(bench)  # the conversation has its notice of this minute
    return rejected(bench)


def dropped(bench: Bench) -> Event:
    first = killed(bench)
    assert bench.lanes.drop(BOT, [first.trace_id]) == 1
    return first


def told(bench: Bench) -> Event:
    first = event()
    bench.accept(first, notice_after_ms=1)
    bench.client.zadd(keys.WAITING, {BOT.event(first.trace_id): 1})
    assert bench.lanes.tell_waiting(limit=1) == (1, 1)
    bench.lanes.settle(bench.claim_reply(first), next_part=1, parts=1)
    return first


STATES: list[Any] = [
    (waiting, "waiting for the model", "accepted"),
    (retried, "waiting for the model", "process, attempt 1 by w1@host: model:503: busy"),
    (told, "waiting for the model", "told that it takes longer"),
    (written, "waiting for push", "reply written (attempts: 1, worker w1@host)"),
    (killed, "dead", "dead: model:401: wrong key"),
    (answered, "answered", "answered (attempts to push: 1, worker w1@host)"),
    (dropped, "dropped", "dropped (attempts to push: 0, last failure model:401)"),
    (rejected, "rejected, its notice waiting for push", f"by w1@host: rejected: {QUOTA}"),
    (told_of_it, "rejected", f"rejected (attempts to push: 1, worker w1@host, why {QUOTA})"),
    (rejected_again, "rejected", f"rejected (attempts to push: 0, why {QUOTA})"),
]


@pytest.mark.parametrize("by", ["trace_id", "message_id"])
@pytest.mark.parametrize(("make", "fate", "last"), STATES, ids=lambda v: getattr(v, "__name__", ""))
def test_trace_tells_the_way_of_an_event_in_every_stage(
    make: Any, fate: str, last: str, by: str, operator: Operator, bench: Bench
) -> None:
    first = make(bench)

    told = operator.told("trace", getattr(first, by)).splitlines()
    way = operator.json("trace", getattr(first, by))

    assert told[0] == f"{BOT.prefix}  {first.trace_id}  {fate}"
    assert told[1].endswith("  accepted")
    shown = told[:-1] if way["now"] else told
    assert shown[-1].endswith(last)
    assert told[-1] == (f"  now: {way['now']}" if way["now"] else shown[-1])
    assert (way["fate"], way["trace_id"]) == (fate, first.trace_id)
    times = [step["ms"] for step in way["steps"]]
    assert times == sorted(times)


def test_trace_of_an_unknown_event_says_what_it_takes(operator: Operator, bench: Bench) -> None:
    result = operator.run("trace", "nothing")

    assert result.exit_code == 1
    assert "trace id or a message id" in result.output


def test_queue_counts_by_walking_and_says_that_the_equation_holds(
    operator: Operator, bench: Bench
) -> None:
    answered(bench)
    killed(bench, "dead")
    for conversation in "ab":
        bench.accept(event(conversation), event(conversation))
    with_reply = event("c")
    bench.accept(with_reply)
    bench.processed(with_reply)

    told = operator.told("queue")
    facts = operator.json("queue")["bots"][BOT.prefix]

    assert "in flight 5: holds" in told
    assert (facts["to_process"], facts["inbox_lanes"]) == (4, 2)
    assert (facts["to_push"], facts["outbox_lanes"], facts["imbalance"]) == (1, 1, 0)


@pytest.mark.parametrize("by", [-1, 1])
def test_queue_ends_with_1_when_an_event_is_unaccounted_for(
    by: int, operator: Operator, bench: Bench
) -> None:
    bench.accept(event())
    bench.client.hincrby(BOT.counts, "accepted", by)

    result, as_json = operator.run("queue"), operator.run("queue", "--json")

    assert (result.exit_code, as_json.exit_code) == (1, 1)
    assert f"BROKEN by {by}" in result.output
    assert json.loads(as_json.output)["bots"][BOT.prefix]["imbalance"] == by


def test_queue_says_nothing_of_the_equation_when_it_did_not_count_in_one_instant(
    operator: Operator, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.accept(event("a"), event("b"))
    bench.client.hincrby(BOT.counts, "accepted", 1)  # as an event that ends between two calls
    monkeypatch.setattr("workers.ops.overview.LANES_PER_CALL", 1)

    told = operator.told("queue")

    assert "in flight 2: not told" in told
    assert operator.json("queue")["bots"][BOT.prefix]["imbalance"] is None


def test_what_was_rejected_is_accounted_for_before_and_after_its_notice(
    operator: Operator, bench: Bench
) -> None:
    first = rejected(bench)
    waits = operator.json("queue")["bots"][BOT.prefix]
    bench.lanes.settle(bench.claim_reply(first), next_part=1, parts=1)
    ended = operator.json("queue")["bots"][BOT.prefix]

    assert (waits["to_push"], waits["in_flight"], waits["imbalance"]) == (1, 1, 0)
    assert (ended["in_flight"], ended["imbalance"]) == (0, 0)
    assert ended["counts"] == {"accepted": 1, "rejected": 1}


def test_queue_tells_the_age_of_the_oldest_unfinished_event(
    operator: Operator, bench: Bench
) -> None:
    assert operator.json("queue")["oldest_s"] == 0
    first = event()
    bench.accept(first, event("other"))
    accepted = int(bench.client.hget(BOT.event(first.trace_id), "accepted") or 0)
    bench.client.hset(BOT.event(first.trace_id), "accepted", accepted - 90_000)

    assert 85 < operator.json("queue")["oldest_s"] < 120


def test_a_waiting_notice_is_no_event_in_flight(operator: Operator, bench: Bench) -> None:
    first = event()
    bench.accept(first)
    bench.lanes.bury(bench.claim(first), "model:401", NOTICE)

    facts = operator.json("queue")["bots"][BOT.prefix]

    assert (facts["notices"], facts["in_flight"], facts["imbalance"]) == (1, 0, 0)


def worker_told(bench: Bench, name: str, *, ago_ms: int = 0, **facts: str) -> None:
    seconds, micros = bench.client.time()
    seen_ms = seconds * 1000 + micros // 1000 - ago_ms
    told = {"queues": ["process"], "pool": "thread", **facts, "seen_ms": seen_ms}
    bench.client.hset(keys.WORKERS, name, json.dumps(told))


def test_metrics_lists_live_workers_as_targets_for_prometheus(
    operator: Operator, bench: Bench
) -> None:
    worker_told(bench, "push@b", metrics="10.0.0.2:9540")
    worker_told(bench, "process@a", metrics="127.0.0.1:9541")
    worker_told(bench, "gone@a", metrics="127.0.0.1:9540", ago_ms=60_000)

    assert operator.json("metrics") == [
        {"targets": ["127.0.0.1:9541"], "labels": {"worker": "process@a"}},
        {"targets": ["10.0.0.2:9540"], "labels": {"worker": "push@b"}},
    ]
    assert "push@b  thread  http://10.0.0.2:9540/metrics" in operator.told("metrics")


def test_metrics_ends_with_1_when_a_worker_shows_none(operator: Operator, bench: Bench) -> None:
    worker_told(bench, "old@a")
    worker_told(bench, "new@a", metrics="127.0.0.1:9540")

    result, as_json = operator.run("metrics"), operator.run("metrics", "--json")

    assert (result.exit_code, as_json.exit_code) == (1, 1)
    assert "old@a  thread  none" in result.output
    assert [t["labels"]["worker"] for t in json.loads(as_json.output)] == ["new@a"]


COMMANDS = [
    ["dead", "list"],
    ["dead", "show", "x"],
    ["dead", "replay", "--all"],
    ["dead", "drop", "--all", "--yes"],
    ["trace", "x"],
    ["queue"],
    ["metrics"],
    ["usage"],
]


class Shell:
    """The console script with its exit codes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def run(self, *arguments: str, **environ: str) -> tuple[int, str, str]:
        for name, value in environ.items():
            self._monkeypatch.setenv(name, value)
        self._monkeypatch.setattr(sys, "argv", ["clawdbot", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        told = self._capsys.readouterr()
        code = ended.value.code
        return (code if isinstance(code, int) else 0), told.out, told.err


@pytest.fixture
def shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Shell]:
    monkeypatch.chdir(tmp_path)
    return Shell(monkeypatch, capsys)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_without_redis_a_command_ends_with_1_and_one_sentence(
    command: list[str], shell: Shell
) -> None:
    environ = environ_for(f"redis://:secret-password@127.0.0.1:{free_port()}/0")

    code, out, err = shell.run(*command, **environ)

    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "CLAWDBOT_REDIS__URL" in err
    assert "secret-password" not in err


def test_wrong_settings_end_with_2_and_name_every_problem(shell: Shell) -> None:
    environ = {"CLAWDBOT_PORT": "many", "CLAWDBOT_QPS": "3", "CLAWDBOT_FEISHU__APP_ID": "cli_1"}

    code, out, err = shell.run("queue", **environ)

    assert (code, out) == (2, "")
    for name in ("CLAWDBOT_PORT", "CLAWDBOT_QPS", "CLAWDBOT_FEISHU__"):
        assert name in err
    assert "Traceback" not in err


@pytest.mark.parametrize("arguments", [["nonsense"], ["dead"], ["trace"], ["queue", "--nonsense"]])
def test_wrong_usage_ends_with_2(arguments: list[str], shell: Shell) -> None:
    code, _, err = shell.run(*arguments)

    assert code == 2
    assert "Usage:" in err


@pytest.mark.parametrize("arguments", [["--help"], ["dead", "-h"], ["dead", "drop", "--help"]])
def test_help_needs_no_settings(arguments: list[str], shell: Shell) -> None:
    code, out, _ = shell.run(*arguments, CLAWDBOT_PORT="many")

    assert code == 0
    assert "Usage:" in out


def remembered(bench: Bench) -> Event:
    """A conversation with one turn in its memory."""
    said = event("oc_memory", text="my name is Ada")
    bench.accept(said)
    turn = ["umy name is Ada", "ahello Ada"]
    bench.lanes.write_back(
        bench.claim(said), Reply(("hello",)), turn, usage=USAGE, keep=20, ttl_s=60
    )
    return said


def test_conversation_show_has_the_size_and_the_words_only_if_asked(
    bench: Bench, operator: Operator
) -> None:
    remembered(bench)

    facts = operator.json("conversation", "show", "oc_memory")
    assert (facts["turns"], facts["bytes"]) == (1, len("umy name is Adaahello Ada"))
    assert 0 < facts["expires_in_s"] <= 60
    assert "Ada" not in operator.told("conversation", "show", "oc_memory")
    assert "user: my name is Ada" in operator.told("conversation", "show", "--text", "oc_memory")


def test_conversation_forget_forgets_once_and_needs_a_yes(bench: Bench, operator: Operator) -> None:
    remembered(bench)

    refused = operator.run("conversation", "forget", "oc_memory")
    assert refused.exit_code == 2
    assert "--yes" in refused.output
    assert "forgot 2 entries" in operator.told("conversation", "forget", "--yes", "oc_memory")
    gone = operator.run("conversation", "forget", "--yes", "oc_memory")
    assert gone.exit_code == 1
    assert "nothing is remembered" in gone.output


def test_an_unknown_bot_is_told_with_the_known_ones(bench: Bench, operator: Operator) -> None:
    wrong = operator.run("conversation", "show", "oc_memory", "--bot", "feishu:nobody")

    assert wrong.exit_code == 2
    assert BOT.prefix in wrong.output
