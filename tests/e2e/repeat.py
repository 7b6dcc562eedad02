"""`make e2e-repeat N=20`: every single-cause kill case with N seeds, each seed once.

Each case adds a line to `bench-results/e2e-repeat.jsonl` when it ends. Started again, it goes on
where it stopped: what has a line of this version (`git describe`) is not run again. Remove the file
to begin anew.

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
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench-results" / "e2e-repeat.jsonl"
CASES = "tests/e2e/test_kill_matrix.py"
LIMIT_S = 20  #: what a case may take
RAN = (0, 1)  #: pytest's exit statuses when it ran to its end


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing; 0 when every case of every seed has passed in time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("times", type=int, help="how many seeds")
    # A blow of every kind, one after the other, takes longer than the limit.
    parser.add_argument("-k", dest="chosen", default="not mixed", help="as pytest's -k")
    parser.add_argument("--stacks", type=int, default=1, help="how many stacks run at once")
    options = parser.parse_args(arguments)
    cases, seeds = _collect(options.chosen), range(1, options.times + 1)
    for seed in seeds:
        print(f"--- seed {seed} of {options.times}", flush=True)
        missing = sorted(cases - {r["case"] for r in results() if r["seed"] == str(seed)})
        status = _run(seed, missing, options.stacks) if missing else 0
        if status not in RAN:
            return status
    return _summarize({(str(seed), case) for seed in seeds for case in cases})


class _Collector:
    """A pytest plugin that keeps the names of the cases."""

    cases: frozenset[str] = frozenset()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.cases = frozenset(item.nodeid for item in session.items)


def _collect(chosen: str) -> frozenset[str]:
    collector = _Collector()
    how = ["--collect-only", "-qq", "-m", "matrix", "-k", chosen, f"--rootdir={ROOT}"]
    pytest.main([*how, str(ROOT / CASES)], plugins=[collector])
    return collector.cases


def _run(seed: int, cases: Sequence[str], stacks: int) -> int:
    pytest_run = [sys.executable, "-m", "pytest", "-p", "tests.e2e.repeat", "-m", "matrix"]
    return subprocess.run(
        [*pytest_run, "-n", str(stacks), *cases],
        cwd=ROOT,
        env={**os.environ, "E2E_SEED": str(seed)},
        check=False,
    ).returncode


@cache
def version() -> str:
    """The commit that is tested, with `-dirty` if files differ from it."""
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout[:-1]


def results() -> list[dict[str, Any]]:
    """What this version has run, in order; a line that an abort cut in two counts as not run."""
    found = []
    for line in RESULTS.read_text("utf-8").splitlines() if RESULTS.exists() else []:
        try:
            result = json.loads(line)
        except ValueError:
            continue
        if result.get("version") == version():
            found.append(result)
    return found


def _summarize(wanted: set[tuple[str, str]]) -> int:
    ran = [result for result in results() if (result["seed"], result["case"]) in wanted]
    failed = [result for result in ran if result["outcome"] != "passed"]
    slow = [result for result in ran if result["took_s"] > LIMIT_S]
    missing = wanted - {(result["seed"], result["case"]) for result in ran}
    for result in failed:
        print(f"FAILED seed {result['seed']}: {result['case']}\n  {result.get('error', '')}")
    for result in slow:
        print(f"over {LIMIT_S} s: seed {result['seed']}: {result['case']} {result['took_s']} s")
    for seed, case in sorted(missing):
        print(f"not run: seed {seed}: {case}")
    worst = max((result.get("rest_s", 0) for result in ran), default=0)
    print(
        f"{len(wanted) - len(missing)} of {len(wanted)} cases, {len(failed)} failed, "
        f"{len(slow)} over {LIMIT_S} s; at rest {worst} s after the last blow at the latest. "
        f"{version()}, {RESULTS.relative_to(ROOT)}"
    )
    return 1 if failed or slow or missing else 0


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write a case's line: of its call, or of what failed before or after it."""
    is_outcome = report.when == "call" or report.failed  # a crashed process has no `when`
    if not is_outcome or "PYTEST_XDIST_WORKER" in os.environ:  # the first process is told of all
        return
    result = {
        "seed": os.environ.get("E2E_SEED", "1"),
        "case": report.nodeid,
        "version": version(),
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
