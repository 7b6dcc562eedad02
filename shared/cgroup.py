"""What a process may use of its machine: its cgroup's limits (v2 and v1), else what there is.

A limit of any group above holds, too. https://docs.kernel.org/admin-guide/cgroup-v2.html
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
_V2, _V1_MEMORY, _V1_CPU = "", "memory", "cpu"


@dataclass(frozen=True, slots=True)
class Limits:
    """cores: of CPU time. memory_bytes 0: unknown."""

    cores: float
    memory_bytes: int


def limits(root: Path = ROOT) -> Limits:
    """Of this very process. root: where `proc` and `sys` are."""
    groups = _groups(root)
    memory = [_machine_bytes(root), *_memory_limits(groups)]
    return Limits(
        cores=min([float(_usable_cores()), *_cpu_limits(groups)]),
        memory_bytes=min((limit for limit in memory if limit), default=0),
    )


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _machine_bytes(root: Path) -> int:
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return 0


def _groups(root: Path) -> dict[str, list[Path]]:
    """By controller ("" for v2): the folders of our group and of those above it."""
    found = {}
    base = root / "sys/fs/cgroup"
    for line in _lines(root / "proc/self/cgroup"):  # hierarchy:controllers:path
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            mount = base / controllers if controller else base
            if not mount.is_dir():  # v1: often also mounted under its own name alone
                mount = base / controller
            found[controller] = list(_upwards(mount, path))
    return found


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    """In a container the path is often the host's, and the mount shows our group itself."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for length in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:length])


def _memory_limits(groups: dict[str, list[Path]]) -> Iterator[int]:
    for folder in groups.get(_V2, []):
        yield from _numbers(folder / "memory.max")
    for folder in groups.get(_V1_MEMORY, []):  # unlimited is a huge number: the machine's is less
        yield from _numbers(folder / "memory.limit_in_bytes")


def _cpu_limits(groups: dict[str, list[Path]]) -> Iterator[float]:
    for folder in groups.get(_V2, []):
        match list(_numbers(folder / "cpu.max")):  # "max 100000" where there is none
            case [quota, period]:
                yield quota / period
    for folder in groups.get(_V1_CPU, []):
        quota = next(_numbers(folder / "cpu.cfs_quota_us"), -1)
        period = next(_numbers(folder / "cpu.cfs_period_us"), 0)
        if quota > 0 and period:
            yield quota / period


def _numbers(file: Path) -> Iterator[int]:
    for line in _lines(file):
        for word in line.split():
            with suppress(ValueError):
                yield int(word)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []
