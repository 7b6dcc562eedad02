"""`make bench`: everything measured in one run, or two versions of ours compared."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench import growth, report
from tests.bench.accepting import accepting
from tests.bench.answering import answering, contestants, obvious, versions
from tests.bench.builds import Gateway
from tests.bench.scale import FULL, QUICK, Scale
from tests.bench.versions import unpack
from tests.bench.world import World

Section = tuple[str, str, Callable[[], list[dict[str, Any]]]]  #: name, title, what measures it


def sections(world: World, scale: Scale) -> list[Section]:
    """What `make bench` measures."""
    return [
        (
            "accepting",
            "(a) Accepting, workers off",
            lambda: accepting(world, [Gateway(world)], scale),
        ),
        (
            "answering",
            "(b), (c) From the webhook to the reply; model_s: the model's latency",
            lambda: answering(
                world, [obvious(world), *contestants([Gateway(world)], scale)], scale
            ),
        ),
        (
            "waiting_lanes",
            f"(d) {growth.SETUP}: while so many lanes wait",
            lambda: growth.waiting_lanes(world, scale),
        ),
        ("histories", "(d) with so much history", lambda: growth.histories(world, scale)),
        ("bots", "(d) with so many bots", lambda: growth.bots(world, scale)),
    ]


def comparison(world: World, scale: Scale, ref: str) -> list[Section]:
    """What `make bench BASE=<ref>` measures."""
    root = unpack(ref)

    def both() -> list[Gateway]:
        return [Gateway(world, root=root, name=f"base {ref}"), Gateway(world)]

    return [
        ("accepting", f"(a) Accepting: {ref} and this", lambda: accepting(world, both(), scale)),
        (
            "answering",
            f"(b) From the webhook to the reply: {ref} and this",
            lambda: answering(world, versions(both(), scale), scale),
        ),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="see that it works; no figures to keep"
    )
    parser.add_argument("--only", default="", help="sections, with commas between")
    parser.add_argument("--base", default="", help="a git ref: compare it with the working tree")
    options = parser.parse_args()
    if sys.platform != "linux":
        raise SystemExit("the bench reads CPU and memory from /proc, which only Linux has")
    started = time.monotonic()
    results: dict[str, Any] = {"machine": report.machine(), "quick": options.quick}
    results |= _measure(QUICK if options.quick else FULL, options.base, options.only)
    results["targets"] = report.targets(results)
    if options.base:
        results["ratios"] = report.ratios(results, f"base {options.base}")
    results["took_s"] = round(time.monotonic() - started, 1)
    _finish(results)
    return 0


def _measure(scale: Scale, base: str, only: str) -> dict[str, Any]:
    """The rows of each section, shown as soon as they are there."""
    results: dict[str, Any] = {}
    with (
        tempfile.TemporaryDirectory(prefix="clawdbot-bench-") as folder,
        World(Path(folder) / "run") as world,
    ):
        known = comparison(world, scale, base) if base else sections(world, scale)
        names = [name for name, _, _ in known]
        wanted = only.split(",") if only else names
        if unknown := set(wanted) - set(names):
            raise SystemExit(f"--only {','.join(unknown)}: there are {', '.join(names)}")
        for name, title, measure in known:
            if name in wanted:
                results[name] = measure()
                report.show(title, results[name])
    return results


def _finish(results: dict[str, Any]) -> None:
    print(f"\n{report.UNITS}")
    for name in ("targets", "ratios"):
        if results.get(name):
            report.show(name.capitalize(), results[name])
    for path in report.write(results):
        print(f"written: {path}")
    print(f"took {results['took_s']:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
