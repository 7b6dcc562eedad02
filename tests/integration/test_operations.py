"""What docs/operations.md says of backups and of Redis's bytes, done."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner

from shared.cli import cli
from shared.messages import Event
from tests.e2e.processes import wait_until
from tests.integration.gateway import environ_for
from tests.integration.lanes import BOT, Bench, event
from tests.redis_server import RedisServer

OPERATIONS = (Path(__file__).parents[2] / "docs/operations.md").read_text("utf-8")
EVENTS, FINISHED, BATCH = 1000, 10_000, 50
SLACK = 0.2  #: tables of a hash grow in steps, and versions of Redis differ


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    (tmp_path / "live").mkdir()
    with RedisServer(tmp_path / "live") as running:
        yield running


def documented(step: str) -> str:
    """The one line of the backup that has these words."""
    (line,) = [text for text in OPERATIONS.splitlines() if step in text and "redis-cli" in text]
    return line.partition("#")[0].strip()


def redis_cli(client: redis.Redis, line: str) -> object:
    """What redis-cli would send."""
    return client.execute_command(*line.removeprefix("redis-cli ").partition(" | ")[0].split())


def test_a_backup_made_under_load_as_documented_is_whole(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, enough = Bench(server.client()), threading.Event()
    numbers = itertools.count()

    def write() -> None:
        while not enough.is_set():
            first = event(f"oc_{next(numbers)}")
            bench.accept(first)
            bench.processed(first)

    writer = threading.Thread(target=write)
    writer.start()
    wait_until(lambda: bench.counts().get("accepted", 0) > 50, 20, "messages are under way")
    client = server.client()
    redis_cli(client, documented("percentage 0"))
    redis_cli(client, documented("aof_rewrite_in_progress"))
    assert client.info("persistence")["aof_rewrite_in_progress"] == 0
    before = bench.counts()["accepted"]
    (tmp_path / "copy").mkdir()
    subprocess.run(
        ["tar", "czf", str(tmp_path / "backup.tgz"), "appendonlydir"],
        cwd=server.directory,
        check=False,  # tar minds that the file grows: that is what it does
    )
    redis_cli(client, documented("percentage 100"))
    enough.set()
    writer.join(10)
    shutil.unpack_archive(tmp_path / "backup.tgz", tmp_path / "copy", filter="data")

    monkeypatch.chdir(tmp_path)
    with RedisServer(tmp_path / "copy") as restored:
        environ = environ_for(restored.url, FEISHU__APP_ID=BOT.app_id)
        told = CliRunner(env=environ).invoke(cli, ["queue"])
        counts = Bench(restored.client()).counts()
    assert told.exit_code == 0, told.output
    assert counts["accepted"] >= before


def documented_bytes(row: str) -> int:
    found = re.search(rf"^\| {re.escape(row)}.* \| ([\d,]+) \|$", OPERATIONS, re.M)
    assert found, row
    return int(found[1].replace(",", ""))


def message(number: int) -> Event:
    """With ids as long as Feishu's."""
    name = f"{number:032d}"
    return event(
        f"oc_{name}",
        text="",
        sender_id=f"ou_{name}",
        message_id=f"om_{name}",
        event_id=name,
        reply_address={"message_id": f"om_{name}", "chat_id": f"oc_{name}"},
    )


def test_what_waits_takes_no_more_than_documented(server: RedisServer) -> None:
    client = server.client()
    bench = Bench(client)
    events = [message(number) for number in range(EVENTS + BATCH)]
    bench.accept(*events[EVENTS:])  # from now on scripts and buffers are there
    empty = client.info("memory")["used_memory"]
    for start in range(0, EVENTS, BATCH):
        bench.accept(*events[start : start + BATCH])
    waiting = (client.info("memory")["used_memory"] - empty) / EVENTS
    for each in events[:EVENTS]:
        bench.processed(each, "a" * 200)
    client.delete("process")  # the hints that workers would have taken
    written = (client.info("memory")["used_memory"] - empty) / EVENTS

    assert waiting == pytest.approx(documented_bytes("a message that waits"), rel=SLACK)
    assert written == pytest.approx(documented_bytes("the same with an answer"), rel=SLACK)


def test_what_is_finished_takes_no_more_than_documented(server: RedisServer) -> None:
    client = server.client()
    bench = Bench(client)
    events = [message(number) for number in range(FINISHED + BATCH)]
    _finish(bench, events[FINISHED:])
    empty = client.info("memory")["used_memory"]
    for start in range(0, FINISHED, BATCH):
        _finish(bench, events[start : start + BATCH])
    client.delete("process", "push")  # the hints that workers would have taken
    taken = (client.info("memory")["used_memory"] - empty) / FINISHED

    older = int(client.info("server")["redis_version"].partition(".")[0]) < 8  # Valkey says 7.2
    row = "the same on Redis 7.0" if older else "a finished message"
    assert taken <= documented_bytes(row) * (1 + SLACK)


def _finish(bench: Bench, events: list[Event]) -> None:
    bench.accept(*events)
    for each in events:
        bench.processed(each, "a" * 200)
        bench.lanes.settle(bench.claim_reply(each), next_part=1, parts=1, route="reply")


def test_the_append_only_file_grows_as_documented(server: RedisServer) -> None:
    bench = Bench(server.client())
    file = server.directory / "appendonlydir"

    def size() -> int:
        return sum(part.stat().st_size for part in file.iterdir())

    before = size()
    for number in range(200):
        each = message(number)
        bench.accept(each)
        bench.processed(each, "a" * 200)
        bench.lanes.settle(bench.claim_reply(each), next_part=1, parts=1)
    grown = (size() - before) / 200

    assert grown < documented_bytes("append-only file") * (1 + SLACK)
