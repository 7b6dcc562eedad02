"""What a worker's counts say of attempts, model calls and sends."""

from __future__ import annotations

from typing import cast

import pytest

from shared.errors import BreakerOpenError, DeadlineError, PermanentError, TaskError, TransientError
from shared.http_values import HttpResponse
from shared.platforms.base import Outbound
from shared.platforms.settings import BotSettings
from shared.state.keys import BotKeys
from shared.vault import Vault
from tests.unit.test_stage import a_claim
from workers.bots import WorkerBot
from workers.metrics import Metrics
from workers.model.chat import Answer, read_answer
from workers.outcomes import Attempt
from workers.tokens import TokenCache
from workers.usage import Consumers, Usage


class Room:
    """Of an outbound room, what metrics look at."""

    codes = frozenset({"feishu:230002"})


BOT = WorkerBot(
    "sales",
    BotKeys("feishu", "cli_1"),
    cast(BotSettings, None),
    cast(Outbound, Room()),
    cast(Vault, None),
    cast(Vault, None),
    cast(TokenCache, None),
)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"clawdbot_{name}", labels)


@pytest.mark.parametrize(("stage", "wait_s"), [("process", 40.0), ("push", 10.0)])
def test_a_first_attempt_tells_how_long_the_message_waited(
    metrics: Metrics, stage: str, wait_s: float
) -> None:
    record = {"accepted": "960000", "written": "990000"}
    for attempt in (1, 2):
        claim = a_claim(now_ms=1_000_000, record=record, attempt=attempt)
        metrics.attempted(stage, claim, Attempt.RETRY, 0.5)

    assert value(metrics, "stage_wait_seconds_count", stage=stage) == 1
    assert value(metrics, "stage_wait_seconds_sum", stage=stage) == wait_s
    assert value(metrics, "stage_run_seconds_sum", stage=stage) == 1.0


def test_a_second_part_has_waited_for_the_first_and_not_for_a_worker(metrics: Metrics) -> None:
    record = {"accepted": "960000", "written": "990000", "next_part": "1"}

    metrics.attempted("push", a_claim(record=record), Attempt.OK, 0.5)

    assert value(metrics, "stage_attempts_total", stage="push", outcome="ok") == 1
    assert value(metrics, "stage_wait_seconds_count", stage="push") == 0


@pytest.mark.parametrize("mark", ["!", "~"])
def test_notices_are_no_messages(metrics: Metrics, mark: str) -> None:
    metrics.attempted("push", a_claim(head=f"{mark}trace-1"), Attempt.DEAD, 0.5)

    assert value(metrics, "stage_attempts_total", stage="push", outcome="dead") == 0


def test_a_whole_answer_has_no_first_token(metrics: Metrics) -> None:
    body = b'{"choices": [{"message": {"content": "hello"}}]}'
    metrics.answered("main", read_answer(HttpResponse(200, {}, body), now=0), 2.0)
    metrics.answered("main", Answer("hello", first_token_s=0.3), 1.0)

    assert value(metrics, "model_calls_total", model="main", outcome="ok") == 2
    assert value(metrics, "model_call_seconds_sum", model="main") == 3.0
    assert value(metrics, "model_first_token_seconds_count", model="main") == 1


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (BreakerOpenError("model:breaker_open"), "breaker_open"),
        (DeadlineError("deadline:stalled"), "too_slow"),
        (TransientError("model:429"), "busy"),
        (PermanentError("model:content_filter"), "refused"),
    ],
)
def test_failed_calls_are_counted_by_class(
    metrics: Metrics, error: TaskError, outcome: str
) -> None:
    metrics.unanswered("main", error)

    assert value(metrics, "model_calls_total", model="main", outcome=outcome) == 1


def test_tokens_are_counted_by_kind(metrics: Metrics) -> None:
    consumers = Consumers("", "", "cli_1", "")
    metrics.used("main", Usage(consumers, prompt_tokens=30, completion_tokens=4, offset_s=0))

    assert value(metrics, "model_tokens_total", model="main", kind="prompt") == 30
    assert value(metrics, "model_tokens_total", model="main", kind="completion") == 4


@pytest.mark.parametrize(
    ("error", "outcome", "code"),
    [
        (None, "ok", "ok"),
        (PermanentError("feishu:230002"), "refused", "feishu:230002"),
        (PermanentError("feishu:31415926"), "refused", "other"),
        (TransientError("feishu:http_503"), "failed", "http_5xx"),
    ],
)
def test_sends_are_counted_by_route_outcome_and_documented_code(
    metrics: Metrics, error: TaskError | None, outcome: str, code: str
) -> None:
    metrics.sent(BOT, "reply", error, 0.25)

    names = {"platform": "feishu", "bot": "sales", "route": "reply"}
    assert value(metrics, "push_sends_total", **names, outcome=outcome, code=code) == 1
    assert value(metrics, "push_send_seconds_sum", platform="feishu", route="reply") == 0.25


def test_a_message_is_measured_from_end_to_end(metrics: Metrics) -> None:
    metrics.delivered(BOT, 12.5)
    metrics.delivered(BOT, -0.1)  # clocks of two Redis servers, around a failover

    assert value(metrics, "message_seconds_count", platform="feishu", bot="sales") == 2
    assert value(metrics, "message_seconds_sum", platform="feishu", bot="sales") == 12.5
