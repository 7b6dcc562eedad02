"""`make e2e-repeat N=20`: every single-cause kill case with N seeds, each seed once.

Each case adds a line to `bench-results/e2e-repeat.jsonl` when it ends. Started again, it goes on
where it stopped: what has a line is not run again. Remove the file to begin anew.

The module is also the pytest plugin that does this inside each round (`-p tests.e2e.repeat`).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench-results" / "e2e-repeat.jsonl"
CASES = "tests/e2e/test_kill_matrix.py"
LIMIT_S = 20  #: what a case may take
NO_TESTS_LEFT = 5  #: pytest's exit status when everything was deselected


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing; 0 when every case of every seed has passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("times", type=int, help="how many seeds")
    # A blow of every kind, one after the other, takes longer than the limit.
    parser.add_argument("-k", dest="chosen", default="not mixed", help="as pytest's -k")
    parser.add_argument("--stacks", type=int, default=1, help="how many stacks run at once")
    options = parser.parse_args(arguments)
    for seed in range(1, options.times + 1):
        print(f"--- seed {seed} of {options.times}", flush=True)
        status = _run(seed, options.chosen, options.stacks)
        if status not in (0, 1, NO_TESTS_LEFT):
            return status
    return _summarize(options.times)


def _run(seed: int, chosen: str, stacks: int) -> int:
    pytest_run = [sys.executable, "-m", "pytest", "-p", "tests.e2e.repeat", "-m", "matrix"]
    done = [result["case"] for result in results() if result["seed"] == str(seed)]
    return subprocess.run(
        [
            *(*pytest_run, CASES, "-k", chosen, "-n", str(stacks)),
            *(f"--deselect={case}" for case in done),
        ],
        cwd=ROOT,
        env={**os.environ, "E2E_SEED": str(seed)},
        check=False,
    ).returncode


def results() -> list[dict[str, Any]]:
    """Everything that has run, in order; a line that an abort cut in two counts as not run."""
    found = []
    for line in RESULTS.read_text("utf-8").splitlines() if RESULTS.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def _summarize(times: int) -> int:
    ran = [result for result in results() if int(result["seed"]) <= times]
    failed = [result for result in ran if result["outcome"] != "passed"]
    slow = [result for result in ran if result["took_s"] > LIMIT_S]
    for result in failed:
        print(f"FAILED seed {result['seed']}: {result['case']}\n  {result.get('error', '')}")
    for result in slow:
        print(f"over {LIMIT_S} s: seed {result['seed']}: {result['case']} {result['took_s']} s")
    worst = max((result.get("rest_s", 0) for result in ran), default=0)
    print(
        f"{len(ran)} cases, {len(failed)} failed, {len(slow)} over {LIMIT_S} s; "
        f"at rest {worst} s after the last blow at the latest. {RESULTS.relative_to(ROOT)}"
    )
    return 1 if failed else 0


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write a case's line: of its call, or of a setup that failed."""
    is_outcome = report.when == "call" or (report.when == "setup" and report.failed)
    if not is_outcome or "PYTEST_XDIST_WORKER" in os.environ:  # the first process is told of all
        return
    result = {
        "seed": os.environ.get("E2E_SEED", "1"),
        "case": report.nodeid,
        "outcome": report.outcome,
        "took_s": round(report.duration, 1),
        "ended": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **dict(report.user_properties),
    }
    if report.failed:
        result["error"] = report.longreprtext.splitlines()[-1]
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    sys.exit(main())
