"""The figures of a run as one picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

try:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
except ImportError:
    Figure = None


GROWTH = (("waiting_lanes", "lanes waiting"), ("turns", "turns of history"), ("bots", "bots"))


def draw(results: Mapping[str, Any], path: Path) -> Path | None:
    """Write a PNG; None, and a sentence, without matplotlib."""
    if Figure is None:
        print("no plot: matplotlib is not installed (it comes with the development dependencies)")
        return None
    figure = Figure(figsize=(13, 10), layout="constrained")
    FigureCanvasAgg(figure)
    top, bottom = figure.subfigures(2, 1, height_ratios=(2, 1))
    _bars(top.subplots(1, 2), results.get("answering", []))
    for axes, (name, label) in zip(bottom.subplots(1, len(GROWTH)), GROWTH, strict=True):
        _growth(axes, results.get("histories" if name == "turns" else name, []), name, label)
    figure.savefig(path, dpi=110)
    return path


def _bars(pair: Any, rows: list[dict[str, Any]]) -> None:
    fast = [row for row in reversed(rows) if not row["model_s"]]
    names = [row["what"] for row in fast]
    rate, cpu = pair
    rate.barh(names, [row["messages_per_s"] for row in fast])
    rate.set_title("messages/s, model without latency")
    cpu.barh(names, [row["cpu_ms"] for row in fast], label="our processes")
    redis_ms = [row["redis_ms"] for row in fast]
    cpu.barh(names, redis_ms, left=[row["cpu_ms"] for row in fast], label="Redis")
    cpu.set_title("CPU per message, ms")
    cpu.set_yticks([])
    cpu.legend()


def _growth(axes: Any, rows: list[dict[str, Any]], name: str, label: str) -> None:
    values = [row[name] for row in rows]
    axes.plot(values, [row["cpu_ms"] for row in rows], "o-", label="our processes")
    axes.plot(values, [row["redis_ms"] for row in rows], "o-", label="Redis")
    if name != "turns":
        axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel(label)
    axes.set_title("CPU per message, ms")
    axes.legend()
