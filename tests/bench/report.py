"""What was measured, as tables on the terminal, as JSON and as a plot."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench import accepting
from tests.bench.plot import draw
from tests.bench.world import ROOT

Rows = Sequence[Mapping[str, Any]]

RATIOS = ("events_per_s", "messages_per_s", "cpu_ms", "redis_ms")
FOLDER = ROOT / "bench-results"
UNITS = "CPU in ms per message: `cpu_ms` all our processes, `redis_ms` apart. Memory: MiB of PSS."


def show(title: str, rows: Rows) -> None:
    """Print one table."""
    names = [name for name in rows[0] if not name.startswith("cpu_ms_")]
    cells = [names, *([_cell(row[name]) for name in names] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(names))]
    print(f"\n{title}")
    for row in cells:
        line = [
            f"{text:<{w}}" if not i else f"{text:>{w}}"
            for i, (text, w) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(line).rstrip(), flush=True)


def write(results: Mapping[str, Any]) -> list[Path]:
    """Write the JSON and, where matplotlib is installed, the plot; the files written."""
    FOLDER.mkdir(exist_ok=True)
    name = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", "utf-8")
    picture = draw(results, FOLDER / f"{name}.png")
    return [path, *([picture] if picture else [])]


def machine() -> dict[str, Any]:
    """Where it was measured, and what."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    return {
        "version": described.stdout.strip(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu": cpu[0].partition(": ")[2] if cpu else platform.machine(),
        "cores": len(cpu),
    }


def targets(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What docs/performance.md promises, beside what was measured."""
    found: list[dict[str, Any]] = []
    if "accepting" in results:
        found += _accept_targets(results["accepting"])
    if "answering" in results:
        found += _answer_targets(results["answering"])
    if "waiting_lanes" in results:
        costs = [row["cpu_ms"] + row["redis_ms"] for row in results["waiting_lanes"]]
        found.append(_target("cost, most ÷ least over waiting lanes", max(costs) / min(costs), 1.2))
    return found


def ratios(results: Mapping[str, Any], base: str) -> list[dict[str, Any]]:
    """Every figure of the working tree ÷ that of `base`."""
    found = []
    for name in ("accepting", "answering"):
        rows = {(row["what"], row.get("model_s")): row for row in results.get(name, [])}
        for (what, model_s), row in rows.items():
            old = rows.get((what.replace("gateway", base, 1), model_s))
            if what.startswith("gateway") and old:
                found += [
                    {"ratio": f"{what}: {figure}", "this ÷ base": row[figure] / old[figure]}
                    for figure in RATIOS
                    if old.get(figure)
                ]
    return found


def _accept_targets(rows: Rows) -> list[dict[str, Any]]:
    bare = next(row for row in rows if row["what"] == accepting.BARE)
    ours = next(row for row in rows if row["what"] == "gateway")
    p99 = f"p99_ms_at_{accepting.RATE}"
    return [
        _target("accept rate ÷ bare", ours["events_per_s"] / bare["events_per_s"], at_least=0.5),
        _target(f"accept {p99}", ours[p99], 20),
    ]


def _answer_targets(rows: Rows) -> list[dict[str, Any]]:
    ours = [row for row in rows if row["what"].startswith("gateway,")]
    obvious = [
        row for row in rows if row["what"].startswith("obvious build") and not row["model_s"]
    ]
    slow = [row for row in ours if "gevent" in row["what"] and row["what"].endswith("×1")]
    found = [
        _target(
            "idle worker (threads, gevent), MiB",
            max(r["idle_worker_mib"] for r in ours if "prefork" not in r["what"]),
            80,
        )
    ]
    for row in (
        row for row in ours if obvious and not row["model_s"] and row["what"].endswith("×1")
    ):
        rate = row["messages_per_s"] / obvious[0]["messages_per_s"]
        cpu = row["cpu_ms"] / obvious[0]["cpu_ms"]
        found.append(_target(f"{row['what']}: rate ÷ obvious", rate, at_least=2.5))
        found.append(_target(f"{row['what']}: CPU ÷ obvious", cpu, 0.4))
    found += [
        _target("gevent, 1 s model, messages/s", row["messages_per_s"], at_least=200)
        for row in slow
        if row["model_s"]
    ]
    return found


def _target(
    what: str, value: float, at_most: float | None = None, *, at_least: float | None = None
) -> dict[str, Any]:
    holds = value <= at_most if at_most is not None else value >= (at_least or 0)
    wanted = f"≤ {at_most:g}" if at_most is not None else f"≥ {at_least:g}"
    return {"target": what, "measured": value, "wanted": wanted, "holds": "yes" if holds else "NO"}


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"
    return str(value)
