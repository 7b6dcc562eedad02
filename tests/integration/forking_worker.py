"""A forking pool's worker in short, for `test_forked_counts.py`: it does what its input says.

`fork N`: a child counts N attempts and lives on · `reap PID` · `fold` · `show`: two of the counts.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry

from shared.config.groups import Metrics as MetricsSettings
from tests.unit.test_stage import a_claim
from workers.forked_counts import ForkedCounts
from workers.measuring import Measuring
from workers.metrics_folder import VARIABLE
from workers.outcomes import Attempt

RUN_S = 0.3
ATTEMPTS = {"stage": "process", "outcome": "ok"}
UP_TO_HALF_A_SECOND = {"stage": "process", "le": "0.5"}


def main() -> None:
    measuring = Measuring(MetricsSettings())
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
        os.write(childs, b".")
        signal.pause()
    os.close(childs)
    return child if os.read(ours, 1) else 0


def show(counts: ForkedCounts) -> str:
    registry = CollectorRegistry()
    registry.register(counts)
    attempts = registry.get_sample_value("clawdbot_stage_attempts_total", ATTEMPTS)
    runs = registry.get_sample_value("clawdbot_stage_run_seconds_bucket", UP_TO_HALF_A_SECOND)
    return f"{attempts:g} {runs:g}"


if __name__ == "__main__":
    main()
