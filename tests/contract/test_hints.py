"""The messages that the scripts push run on a stock Celery worker, on every pool.

Two of the functions that make them are not public (`shared/envelope.py`): this is what tells when a
new release of Celery or kombu changes them.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery

from shared.envelope import PROCESS, PUSH, QUEUES
from tests.integration.lanes import BOT, Bench, event, inbox, outbox
from tests.redis_server import RedisServer

POOLS = ("solo", "threads", "prefork", "gevent")
EVENTS = 100
READY_S = 60
DONE = "done"

#: Celery as its tutorial has it: nothing of ours is imported.
STOCK = """
import os

import redis
from celery import Celery

url = os.environ["STOCK_URL"]
app = Celery("stock", broker=url)
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)
client = redis.Redis.from_url(url)


def run(task, *args):
    client.rpush("done", repr((task.name, args, task.request.id, task.request.retries)))


@app.task(name="process", bind=True)
def process(self, lane, seq, trace_id):
    run(self, lane, seq, trace_id)


@app.task(name="push", bind=True)
def push(self, lane, seq, trace_id):
    run(self, lane, seq, trace_id)
"""


class StockWorker:
    """One worker process of one pool, on a database of its own."""

    def __init__(self, server: RedisServer, number: int, pool: str, folder: Path) -> None:
        self.url = f"redis://127.0.0.1:{server.port}/{number}"
        self.client = redis.Redis.from_url(self.url, decode_responses=True)
        self._log = folder / f"{pool}.log"
        command = [sys.executable, "-m", "celery", "-A", "stock", "worker", "-P", pool, "-c", "4"]
        quiet = ["-Q", ",".join(QUEUES), "--without-gossip", "--without-mingle", "-l", "INFO"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, *quiet, "-n", f"{pool}@stock"],
                cwd=folder,
                env={**os.environ, "STOCK_URL": self.url},
                stdout=log,
                stderr=log,
            )

    def wait_for(self, entries: int) -> list[Any]:
        """What the tasks wrote down, once there are so many entries."""
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline and self._process.poll() is None:
            if self.client.llen(DONE) >= entries:
                return [ast.literal_eval(entry) for entry in self.client.lrange(DONE, 0, -1)]
            time.sleep(0.05)
        raise AssertionError(self._log.read_text("utf-8")[-4000:])

    def tell_to_stop(self) -> None:
        self._process.terminate()

    def await_end(self) -> None:
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(15)
        self.client.close()


@pytest.fixture(scope="module")
def workers(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, StockWorker]]:
    """All pools, started at once: that takes as long as one."""
    folder = tmp_path_factory.mktemp("stock")
    (folder / "stock.py").write_text(STOCK, "utf-8")
    with redis_server.client() as client:
        client.flushall()
    started = {p: StockWorker(redis_server, n, p, folder) for n, p in enumerate(POOLS, 1)}
    yield started
    for worker in started.values():
        worker.tell_to_stop()
    for worker in started.values():
        worker.await_end()


@pytest.mark.parametrize("pool", POOLS)
def test_a_stock_worker_runs_every_hint_with_its_arguments(
    pool: str, workers: Mapping[str, StockWorker]
) -> None:
    worker = workers[pool]
    bench = Bench(worker.client)
    events = [event(f"c{n}" if n % 2 else f'odd "{n}" \\ 群') for n in range(EVENTS)]

    assert bench.accept(*events) == ["accepted"] * EVENTS
    process_hints = worker.wait_for(EVENTS)
    for each in events:
        bench.processed(each)
    push_hints = worker.wait_for(2 * EVENTS)[EVENTS:]

    assert sorted(args for _, args, _, _ in process_hints) == sorted(
        (inbox(e), str(n), e.trace_id) for n, e in enumerate(events, 1)
    )
    assert sorted(args for _, args, _, _ in push_hints) == sorted(
        (outbox(e), str(n), e.trace_id) for n, e in enumerate(events, 1)
    )
    assert {name for name, *_ in process_hints} == {PROCESS}
    assert {name for name, *_ in push_hints} == {PUSH}
    assert len({task_id for _, _, task_id, _ in process_hints}) == EVENTS
    assert len({task_id for _, _, task_id, _ in push_hints}) == EVENTS


def sent_by_celery(client: redis.Redis, url: str, args: tuple[str, ...]) -> dict[str, Any]:
    with Celery("clawdbot", broker=url, set_as_current=False) as app:
        app.send_task(PROCESS, args, queue="by_celery", ignore_result=True)
    message: dict[str, Any] = json.loads(client.rpop("by_celery"))
    return message


def test_a_hint_has_the_shape_of_celerys_own_message(
    redis_server: RedisServer, redis_client: redis.Redis
) -> None:
    first = event()
    Bench(redis_client).accept(first)
    ours = json.loads(redis_client.rpop(PROCESS))
    theirs = sent_by_celery(redis_client, redis_server.url, (inbox(first), "1", first.trace_id))

    assert ours.keys() == theirs.keys()
    assert ours["headers"].keys() == theirs["headers"].keys()
    unused = {"reply_to", "delivery_mode"}  # there are no results, and Redis keeps every message
    assert ours["properties"].keys() - unused == theirs["properties"].keys() - unused
    same = ("task", "lang", "retries", "eta", "expires", "timelimit", "ignore_result", "kwargsrepr")
    for name in same:
        assert ours["headers"][name] == theirs["headers"][name]
    assert ours["content-type"] == theirs["content-type"]
    assert ours["content-encoding"] == theirs["content-encoding"]
    args, kwargs, embedded = json.loads(ours["body"])
    assert args == [inbox(first), "1", first.trace_id]
    assert kwargs == {}
    assert embedded.keys() == {"callbacks", "errbacks", "chain", "chord"}


def test_every_mark_of_the_template_is_filled_in(redis_client: redis.Redis) -> None:
    first, second = event("a"), event("b")
    Bench(redis_client).accept(first, second)

    messages = [json.loads(text) for text in redis_client.lrange(PROCESS, 0, -1)]

    assert "$" not in json.dumps(messages)
    for message, of in zip(reversed(messages), (first, second), strict=True):
        assert message["headers"]["id"] == message["properties"]["correlation_id"]
        assert message["headers"]["id"].startswith(of.trace_id)
    assert len({message["properties"]["delivery_tag"] for message in messages}) == 2


def test_hints_reach_a_worker_in_the_order_they_were_given(redis_client: redis.Redis) -> None:
    events = [event(f"c{n}") for n in range(5)]
    Bench(redis_client).accept(*events)

    taken = [json.loads(redis_client.rpop(PROCESS)) for _ in events]  # workers take from the right

    lanes = [json.loads(message["body"])[0][0] for message in taken]
    assert lanes == [BOT.inbox(f"c{n}") for n in range(5)]
