"""Every metric: name, type, unit, labels, help. The one table; docs, alerts and panels follow it.

Labels come from closed sets: names in the settings (`platform`, `bot`, `model`), or words of our
own (the rest). Never an id, an address, or a word of somebody else's.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

INGRESS: str = "ingress"
WORKERS: str = "workers"
BOTH: str = "ingress, workers"

_CALL_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60)
_WAIT_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600, 1800)


class Kind(StrEnum):
    """As Prometheus names them."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    name: as a query names it; a counter's ends with `_total`. shown_by: whose /metrics has it.
    buckets: upper bounds, in the metric's unit; a histogram's alone.
    """

    name: str
    kind: Kind
    help: str
    shown_by: str
    labels: tuple[str, ...] = ()
    unit: str = ""
    buckets: tuple[float, ...] = ()

    @property
    def series(self) -> tuple[str, ...]:
        """The names of its samples."""
        if self.kind is Kind.HISTOGRAM:
            return tuple(f"{self.name}_{part}" for part in ("bucket", "sum", "count"))
        return (self.name,)

    @property
    def sample_labels(self) -> frozenset[str]:
        """The labels that a query may name."""
        return frozenset(self.labels) | ({"le"} if self.kind is Kind.HISTOGRAM else set())


# What the ingress counts itself.

INGRESS_REQUESTS = Metric(
    "clawdbot_ingress_requests_total",
    Kind.COUNTER,
    "Webhook calls by what became of them; outcome=duplicate: a message that was known.",
    INGRESS,
    ("platform", "bot", "outcome"),
)
INGRESS_ACK = Metric(
    "clawdbot_ingress_ack_seconds",
    Kind.HISTOGRAM,
    "From the headers read to the answer; of messages proved to be the platform's alone.",
    INGRESS,
    ("platform",),
    "s",
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.8, 1, 3),
)
INGRESS_OLD_SECRET = Metric(
    "clawdbot_ingress_old_secret_total",
    Kind.COUNTER,
    "Messages still proved by a secret that is no longer the current one.",
    INGRESS,
    ("platform", "bot"),
)
INGRESS_CONNECTIONS_CUT = Metric(
    "clawdbot_ingress_connections_cut_total",
    Kind.COUNTER,
    "Connections ended before their time: slow_header, answer_not_taken, too_many.",
    INGRESS,
    ("reason",),
)

# What stands in Redis: read at each scrape, the same on every ingress.

REDIS_UP = Metric(
    "clawdbot_redis_up", Kind.GAUGE, "1: Redis told what it was asked at this scrape.", INGRESS
)
EVENTS = Metric(
    "clawdbot_events",
    Kind.GAUGE,
    "Accepted events by fate; accepted = the sum of all the others.",
    INGRESS,
    ("platform", "bot", "fate"),
)
IMBALANCE = Metric(
    "clawdbot_conservation_imbalance",
    Kind.GAUGE,
    "accepted - answered - rejected - cancelled - dead - dropped - in flight; 0 is right."
    " Absent above 5000 lanes.",
    INGRESS,
    ("platform", "bot"),
)
LANES = Metric(
    "clawdbot_lanes",
    Kind.GAUGE,
    "Lanes with unfinished work, by stage.",
    INGRESS,
    ("platform", "bot", "stage"),
)
LANE_EVENTS = Metric(
    "clawdbot_lane_events",
    Kind.GAUGE,
    "Unfinished events by the stage they wait for or are in.",
    INGRESS,
    ("platform", "bot", "stage"),
)
OLDEST = Metric(
    "clawdbot_oldest_event_seconds",
    Kind.GAUGE,
    "Age of the oldest unfinished event of the stage, from its acceptance; 0: there is none.",
    INGRESS,
    ("platform", "bot", "stage"),
    "s",
)
QUEUE_HINTS = Metric(
    "clawdbot_queue_hints", Kind.GAUGE, "Celery messages waiting, by queue.", INGRESS, ("queue",)
)
LIVE_WORKERS = Metric(
    "clawdbot_workers",
    Kind.GAUGE,
    "Workers that were seen in the last 15 s, by queue.",
    INGRESS,
    ("queue",),
)
REDIS_MEMORY = Metric(
    "clawdbot_redis_memory_ratio",
    Kind.GAUGE,
    "Share of Redis's maxmemory in use; above 0.8 messages are refused. 0: it has no maxmemory.",
    INGRESS,
)
BREAKER_OPEN = Metric(
    "clawdbot_model_breaker_open",
    Kind.GAUGE,
    "1: the model failed too often and is left alone, or one call tries whether it is back.",
    INGRESS,
    ("model",),
)
KEYS = Metric(
    "clawdbot_keys", Kind.GAUGE, "Keys in the ring, by state.", INGRESS, ("model", "state")
)
KEY_EXPIRY = Metric(
    "clawdbot_key_expiry_days",
    Kind.GAUGE,
    "Days until the first key in this state ends; below 0: it is past its date.",
    INGRESS,
    ("model", "state"),
    "days",
)

# What each worker counts.

STAGE_WAIT = Metric(
    "clawdbot_stage_wait_seconds",
    Kind.HISTOGRAM,
    "From accepted (process), or written back (push), to the first claim.",
    WORKERS,
    ("stage",),
    "s",
    _WAIT_BUCKETS,
)
STAGE_RUN = Metric(
    "clawdbot_stage_run_seconds",
    Kind.HISTOGRAM,
    "One attempt, from its claim to its outcome recorded.",
    WORKERS,
    ("stage",),
    "s",
    _CALL_BUCKETS,
)
STAGE_ATTEMPTS = Metric(
    "clawdbot_stage_attempts_total",
    Kind.COUNTER,
    "Attempts by outcome; a reply of several parts takes one each. Notices are not counted.",
    WORKERS,
    ("stage", "outcome"),
)
MODEL_CALLS = Metric(
    "clawdbot_model_calls_total",
    Kind.COUNTER,
    "Calls of a model by outcome: ok, or the class of the error.",
    WORKERS,
    ("model", "outcome"),
)
MODEL_FIRST_TOKEN = Metric(
    "clawdbot_model_first_token_seconds",
    Kind.HISTOGRAM,
    "From the call to the first word or thought of a streamed answer.",
    WORKERS,
    ("model",),
    "s",
    _CALL_BUCKETS,
)
MODEL_CALL = Metric(
    "clawdbot_model_call_seconds",
    Kind.HISTOGRAM,
    "From the call to the end of its answer.",
    WORKERS,
    ("model",),
    "s",
    _CALL_BUCKETS,
)
MODEL_TOKENS = Metric(
    "clawdbot_model_tokens_total",
    Kind.COUNTER,
    "Tokens of answers written back, of prompt and completion; estimated where not told.",
    WORKERS,
    ("model", "kind"),
    "tokens",
)
PUSH_SENDS = Metric(
    "clawdbot_push_sends_total",
    Kind.COUNTER,
    "Sends by route, outcome and the platform's code (those it documents; others: other).",
    WORKERS,
    ("platform", "bot", "route", "outcome", "code"),
)
PUSH_SEND = Metric(
    "clawdbot_push_send_seconds",
    Kind.HISTOGRAM,
    "One send, its access token included.",
    WORKERS,
    ("platform", "route"),
    "s",
    _CALL_BUCKETS,
)
MESSAGE = Metric(
    "clawdbot_message_seconds",
    Kind.HISTOGRAM,
    "A message's whole way: from accepted to the last part of its answer delivered.",
    WORKERS,
    ("platform", "bot"),
    "s",
    (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800),
)

# What a program uses of its machine: itself and its children, on Linux.

CPU = Metric(
    "clawdbot_process_cpu_seconds_total",
    Kind.COUNTER,
    "CPU time of the program and its children, those that ended included.",
    BOTH,
    (),
    "s",
)
CPU_LIMIT = Metric(
    "clawdbot_process_cpu_limit_cores",
    Kind.GAUGE,
    "Cores it can use: of its cgroup, its CPU set, and one for each of its processes.",
    BOTH,
    (),
    "cores",
)
MEMORY = Metric(
    "clawdbot_process_memory_bytes",
    Kind.GAUGE,
    "Memory of the program and its children; what they share counts once.",
    BOTH,
    (),
    "bytes",
)
MEMORY_LIMIT = Metric(
    "clawdbot_process_memory_limit_bytes",
    Kind.GAUGE,
    "Memory that it may have: the limit of its cgroup, or what the machine has.",
    BOTH,
    (),
    "bytes",
)
MEMORY_LIMIT_USED = Metric(
    "clawdbot_process_memory_limit_used_bytes",
    Kind.GAUGE,
    "Of that limit, what is in use by all that share it, without cache that can be dropped.",
    BOTH,
    (),
    "bytes",
)
PROCESSES = Metric(
    "clawdbot_processes", Kind.GAUGE, "The program's processes: itself and its children.", BOTH
)

TABLE: tuple[Metric, ...] = (
    *(INGRESS_REQUESTS, INGRESS_ACK, INGRESS_OLD_SECRET, INGRESS_CONNECTIONS_CUT),
    *(REDIS_UP, EVENTS, IMBALANCE, LANES, LANE_EVENTS, OLDEST, QUEUE_HINTS, LIVE_WORKERS),
    *(REDIS_MEMORY, BREAKER_OPEN, KEYS, KEY_EXPIRY),
    *(STAGE_WAIT, STAGE_RUN, STAGE_ATTEMPTS),
    *(MODEL_CALLS, MODEL_FIRST_TOKEN, MODEL_CALL, MODEL_TOKENS),
    *(PUSH_SENDS, PUSH_SEND, MESSAGE),
    *(CPU, CPU_LIMIT, MEMORY, MEMORY_LIMIT, MEMORY_LIMIT_USED, PROCESSES),
)
