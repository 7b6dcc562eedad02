"""`clawdbot audit report`, and the week's report that nobody asks for."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import redis
from click.testing import CliRunner

from shared import audit
from shared.audit import Action
from shared.cli import cli
from shared.local_time import local_day
from shared.messages import Event
from shared.state import keys
from shared.state.key_ring import DAY_MS, Entry, KeyRing
from shared.state.refused import Kind, address_field, kind_field
from tests.integration.gateway import environ_for
from tests.integration.lanes import BOT, Bench, event
from tests.redis_server import RedisServer
from workers.audit.duty import INTERVAL_MS, ReportDuty
from workers.audit.report import OTHERS, Report, Reporter, first_day_of, week_of
from workers.audit.stream import PAGE, ActionStream
from workers.keys.pair import KeyPair
from workers.keys.ring_store import RingStore
from workers.store import Lanes

ZONE = ZoneInfo("Asia/Shanghai")
MASTER = "a master key of tests"
BAD = Kind("signature", "dingtalk", "default")
STALE = Kind("timestamp", "feishu", "sales")


@pytest.fixture
def run(redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    environ = environ_for(redis_server.url, FEISHU__APP_ID=BOT.app_id, MASTER_KEY=MASTER)

    def clawdbot(*arguments: str, **changes: str) -> Any:
        runner = CliRunner(env={**environ, **changes})
        return runner.invoke(cli, arguments, catch_exceptions=False)

    yield clawdbot
    audit.configure("test")


def bury(bench: Bench, events: Sequence[Event]) -> None:
    bench.accept(*events)
    for each in events:
        bench.lanes.bury(bench.claim(each), "model:401", None)


def interrupt_after(count: int, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Ctrl-C does after `count` letters."""
    real, calls = getattr(Lanes, step), itertools.count()

    def interrupted(*arguments: Any) -> Any:
        if next(calls) == count:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(Lanes, step, interrupted)


def send_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the client does when a script's reply was lost."""
    real = Lanes._run

    def twice(lanes: Lanes, *arguments: Any) -> Any:
        real(lanes, *arguments)
        return real(lanes, *arguments)

    monkeypatch.setattr(Lanes, "_run", twice)


def now_ms(client: redis.Redis) -> int:
    return int(client.time()[0]) * 1000


def refuse(client: redis.Redis, day: int, kind: Kind, count: int, address: str) -> None:
    client.hincrby(f"{keys.REFUSED_PREFIX}{day}", kind_field(kind), count)
    client.hincrby(f"{keys.REFUSED_PREFIX}{day}", address_field(address), count)


def reporter(client: redis.Redis, *rings: RingStore) -> Reporter:
    return Reporter(client, [BOT], rings, zone=ZONE, warn_days=14)


def report_of_a_week(client: redis.Redis, *rings: RingStore) -> Report:
    now = now_ms(client)
    today = local_day(ZONE, now)
    return reporter(client, *rings).report(today - 6, today, now)


def test_refusals_are_summed_by_reason_platform_bot_day_and_address(
    redis_client: redis.Redis,
) -> None:
    today = local_day(ZONE, now_ms(redis_client))
    refuse(redis_client, today, BAD, 5, "192.0.2.1")
    refuse(redis_client, today, STALE, 2, "2001:db8::1")
    refuse(redis_client, today - 6, BAD, 1, "")
    refuse(redis_client, today - 7, BAD, 100, "192.0.2.9")

    report = report_of_a_week(redis_client)

    assert report.refused == 8
    assert report.by_reason == {"signature": 6, "timestamp": 2}
    assert report.by_platform == {"dingtalk": 6, "feishu": 2}
    assert report.by_bot == {"dingtalk/default": 6, "feishu/sales": 2}
    assert list(report.by_day.values()) == [1, 0, 0, 0, 0, 0, 7]
    assert report.addresses == {"192.0.2.1": 5, "2001:db8::1": 2, OTHERS: 1}


def test_actions_are_read_page_by_page_and_the_newest_are_told(redis_client: redis.Redis) -> None:
    stream = ActionStream(redis_client)
    for number in range(PAGE + 5):
        stream.keep(Action("key.added", "ada", "host1", {"key": number}))
    stream.keep(Action("dead_letters.dropped", "bob", "host2", {"letters": 3}))

    report = report_of_a_week(redis_client)

    assert report.actions == {"key.added": PAGE + 5, "dead_letters.dropped": 1}
    assert len(report.latest) == 100
    newest = dict(report.latest[-1])
    assert newest.pop("at")
    assert newest == {
        "user": "bob",
        "host": "host2",
        "action": "dead_letters.dropped",
        "facts": {"letters": 3},
    }
    assert report.latest[0]["facts"] == {"key": PAGE + 5 - 99}


def test_keys_near_their_end_and_dead_letters_are_told(bench: Bench) -> None:
    store = RingStore(bench.client, "default", [MASTER])
    now = now_ms(bench.client)
    ends = {"active": -1, "next": 100}
    entries = tuple(
        Entry(f"id-{state}", state, store.seal(KeyPair("", state)), now, now + days * DAY_MS)  # type: ignore[arg-type]
        for state, days in ends.items()
    )
    store.change(lambda _, __: KeyRing(entries))
    dead = event()
    bury(bench, [dead])

    report = report_of_a_week(bench.client, store)

    assert report.keys == [{"model": "default", "key": "id-active", "state": "active", "days": -1}]
    assert report.dead_letters == {BOT.prefix: 1}


def test_the_command_tells_people_and_programs(run: Any, redis_client: redis.Redis) -> None:
    today = local_day(ZONE, now_ms(redis_client))
    refuse(redis_client, today, BAD, 5, "192.0.2.1")

    text = run("audit", "report").output
    report = json.loads(run("audit", "report", "--since", "2w", "--json").output)

    assert "refused calls: 5" in text
    assert "5  192.0.2.1" in text
    assert report["refused"] == 5
    assert len(report["by_day"]) == 14


@pytest.mark.parametrize("span", ["0d", "41d", "7", "d", "week", "99w"])
def test_a_span_that_is_none_is_refused_in_words(span: str, run: Any) -> None:
    result = run("audit", "report", "--since", span)

    assert result.exit_code == 2
    assert "expected 1d to 40d" in result.output


def test_what_operators_do_is_in_the_file_and_in_the_report(
    run: Any, bench: Bench, tmp_path: Path
) -> None:
    logs = str(tmp_path / "logs")
    dead = [event(f"c{n}") for n in range(2)]
    bury(bench, dead)
    (tmp_path / "pair.json").write_text('{"akId": "AK", "akSecret": "sk-of-the-new-pair"}')

    run("keys", "add", "--file", "pair.json", CLAWDBOT_LOG_DIR=logs)
    run("dead", "replay", dead[0].trace_id, CLAWDBOT_LOG_DIR=logs)
    run("dead", "drop", "--yes", dead[1].trace_id, CLAWDBOT_LOG_DIR=logs)
    run("config", "set", "log.level", "DEBUG", CLAWDBOT_LOG_DIR=logs)
    run("conversation", "forget", "--yes", dead[0].conversation_id, CLAWDBOT_LOG_DIR=logs)

    report = json.loads(run("audit", "report", "--json").output)
    expected = ["key.added", "dead_letters.replayed", "dead_letters.dropped", "config.changed"]
    assert list(report["actions"]) == [*expected, "conversation.forgotten"]
    lines = (tmp_path / "logs/audit.log").read_text("utf-8")
    written = [json.loads(line) for line in lines.splitlines()]
    assert [line["message"] for line in written] == list(report["actions"])
    assert written[1]["metadata"]["events"] == [dead[0].trace_id]
    assert "sk-of-the-new-pair" not in lines + json.dumps(report)


@pytest.mark.parametrize(
    ("command", "step", "action"),
    [
        (["replay", "--all"], "replay", "dead_letters.replayed"),
        (["drop", "--all", "--yes"], "drop", "dead_letters.dropped"),
    ],
)
def test_what_was_done_before_an_interruption_is_in_the_trail(
    run: Any,
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
    step: str,
    action: str,
) -> None:
    dead = [event(f"c{n}") for n in range(3)]
    bury(bench, dead)
    interrupt_after(2, step, monkeypatch)

    assert run("dead", *command).exit_code == 1

    (entry,) = json.loads(run("audit", "report", "--json").output)["latest"]
    assert entry["action"] == action
    assert entry["facts"] == {"letters": 2, "events": [each.trace_id for each in dead[:2]]}


@pytest.mark.parametrize(("step", "flags"), [("replay", []), ("drop", ["--yes"])])
def test_what_was_done_though_the_reply_was_lost_is_in_the_trail(
    run: Any, bench: Bench, monkeypatch: pytest.MonkeyPatch, step: str, flags: list[str]
) -> None:
    dead = event()
    bury(bench, [dead])
    send_twice(monkeypatch)

    assert run("dead", step, *flags, dead.trace_id).exit_code == 0

    (entry,) = json.loads(run("audit", "report", "--json").output)["latest"]
    assert entry["facts"] == {"letters": 1, "events": [dead.trace_id]}


def test_an_interruption_before_anything_was_done_leaves_no_entry(
    run: Any, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bury(bench, [event()])
    interrupt_after(0, "drop", monkeypatch)

    run("dead", "drop", "--all", "--yes")

    assert json.loads(run("audit", "report", "--json").output)["latest"] == []


def test_what_redis_can_not_keep_is_said_and_stays_done(
    run: Any, bench: Bench, redis_client: redis.Redis
) -> None:
    dead = event()
    bury(bench, [dead])
    redis_client.set(keys.AUDIT_ACTIONS, "no stream")

    result = run("dead", "drop", "--yes", dead.trace_id)

    assert result.exit_code == 0
    assert "dropped 1 of 1" in result.output
    assert "dead_letters.dropped: done, but not kept" in result.output


# The weekly report


def duty(client: redis.Redis, directory: Path | None = None) -> ReportDuty:
    return ReportDuty(client, reporter(client), zone=ZONE, directory=directory)


def monday_ms(client: redis.Redis) -> int:
    """The beginning of this week, by the zone's clocks."""
    first = first_day_of(week_of(local_day(ZONE, now_ms(client))))
    return first * DAY_MS - 8 * 3_600_000


def reported(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [r.metadata for r in caplog.records if r.message == "audit.reported"]  # type: ignore[attr-defined]


def test_each_new_week_reports_on_the_one_before_once_whoever_sweeps(
    redis_client: redis.Redis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monday = monday_ms(redis_client)
    first_day = local_day(ZONE, monday)
    refuse(redis_client, first_day + 6, BAD, 5, "192.0.2.1")
    duty(redis_client).tick(monday + DAY_MS)  # the first week of this gateway
    assert reported(caplog) == []

    for each in (duty(redis_client, tmp_path), duty(redis_client, tmp_path)):
        each.tick(monday + 7 * DAY_MS - 1)
        each.tick(monday + 7 * DAY_MS + INTERVAL_MS)

    (line,) = reported(caplog)
    name = (date(1970, 1, 1) + timedelta(days=first_day)).isoformat()
    assert (line["first_day"], line["refused"]) == (name, 5)
    assert "latest" not in line
    text = (tmp_path / f"audit-{name}.txt").read_text("utf-8")
    assert "refused calls: 5" in text


def test_a_folder_that_can_not_be_written_costs_the_file_alone(
    redis_client: redis.Redis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (tmp_path / "logs").write_text("in the way")
    redis_client.set(keys.AUDIT_WEEK, 1)
    made = duty(redis_client, tmp_path / "logs")

    made.tick(now_ms(redis_client))
    made.tick(now_ms(redis_client) + INTERVAL_MS)

    assert len(reported(caplog)) == 1
    assert [r.message for r in caplog.records if r.levelno > logging.INFO] == ["audit.not_written"]


def test_weeks_go_from_monday_to_sunday() -> None:
    monday = (date(2026, 11, 23) - date(1970, 1, 1)).days

    assert [week_of(monday + n) - week_of(monday) for n in (-1, 0, 6, 7)] == [-1, 0, 0, 1]
    assert first_day_of(week_of(monday + 6)) == monday
