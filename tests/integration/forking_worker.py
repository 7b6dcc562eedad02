"""A forking pool's worker in short, for `test_forked_counts.py`: it does what its input says.

`fork N`: a child counts N attempts, as many messages, and lives on · `reap PID` · `fold` ·
`show`: two of the counts · `messages`: how many, "None" if there is no such series.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry

from shared.config.groups import Metrics as MetricsSettings
from tests.unit.test_stage import a_claim
from tests.unit.test_worker_metrics import BOT
from workers.forked_counts import ForkedCounts
from workers.measuring import Measuring
from workers.metrics_folder import VARIABLE
from workers.outcomes import Attempt

RUN_S = 0.3
ATTEMPTS = {"stage": "process", "outcome": "ok"}
UP_TO_HALF_A_SECOND = {"stage": "process", "le": "0.5"}


def main() -> None:
    measuring = Measuring(MetricsSettings(), [(BOT.keys.platform, BOT.name)])
    measuring.begin(forks=True)
    folder = Path(os.environ[VARIABLE])
    counts = ForkedCounts(folder)
    print(folder, flush=True)
    for line in sys.stdin:
        word, _, rest = line.strip().partition(" ")
        if word == "fork":
            print(fork(measuring, int(rest)), flush=True)
        elif word == "reap":
            print(os.waitpid(int(rest), 0)[0], flush=True)
        elif word == "fold":
            print(counts.fold(), flush=True)
        elif word == "messages":
            print(messages(counts), flush=True)
        else:
            print(show(counts), flush=True)


def fork(measuring: Measuring, attempts: int) -> int:
    """The child's pid, when it has counted; 0: that ended it."""
    ours, childs = os.pipe()
    child = os.fork()
    if not child:
        measuring.begin_child()
        for _ in range(attempts):
            measuring.metrics.attempted("process", a_claim(), Attempt.OK, RUN_S)
            measuring.metrics.delivered(BOT, RUN_S)
        os.write(childs, b".")
        signal.pause()
    os.close(childs)
    return child if os.read(ours, 1) else 0


def show(counts: ForkedCounts) -> str:
    attempts = value(counts, "clawdbot_stage_attempts_total", ATTEMPTS)
    runs = value(counts, "clawdbot_stage_run_seconds_bucket", UP_TO_HALF_A_SECOND)
    return f"{attempts:g} {runs:g}"


def messages(counts: ForkedCounts) -> str:
    labels = {"platform": BOT.keys.platform, "bot": BOT.name}
    return str(value(counts, "clawdbot_message_seconds_count", labels))


def value(counts: ForkedCounts, name: str, labels: dict[str, str]) -> float | None:
    registry = CollectorRegistry()
    registry.register(counts)
    return registry.get_sample_value(name, labels)


if __name__ == "__main__":
    main()
