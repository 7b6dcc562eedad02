"""What a process may use of its machine: its cgroup's limits (v2 and v1), else what there is.

A limit of any group above holds, too. https://docs.kernel.org/admin-guide/cgroup-v2.html
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path("/")
_V2, _V1_MEMORY, _V1_CPU = "", "memory", "cpu"

_Memory = tuple[int, Callable[[], int]]  #: a limit, and what is used of it


@dataclass(frozen=True, slots=True)
class Limits:
    """cores: of CPU time. 0 bytes: unknown.

    memory_used_bytes: by all that share the limit, which one program alone seldom uses up: those in
        its group, or on the machine. Without what the kernel drops at need.
    """

    cores: float
    memory_bytes: int
    memory_used_bytes: int = 0


def limits(root: Path = ROOT) -> Limits:
    """Of this very process. root: where `proc` and `sys` are."""
    groups = _groups(root)
    memory = [each for each in (_machine_memory(root), *_group_memory(groups)) if each[0]]
    limit, used = min(memory, key=lambda each: each[0], default=(0, lambda: 0))
    return Limits(
        cores=min([float(_usable_cores()), *_cpu_limits(groups)]),
        memory_bytes=limit,
        memory_used_bytes=used(),
    )


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _machine_memory(root: Path) -> _Memory:
    kb = _fields(root / "proc/meminfo")
    total, available = kb.get("MemTotal:", 0), kb.get("MemAvailable:")
    used = 0 if available is None else max(0, total - available)
    return total * 1024, lambda: used * 1024


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


def _group_memory(groups: dict[str, list[Path]]) -> Iterator[_Memory]:
    for folder in groups.get(_V2, []):
        used = partial(_group_used, folder, "memory.current", "inactive_file")
        yield from ((limit, used) for limit in _numbers(folder / "memory.max"))
    for folder in groups.get(_V1_MEMORY, []):  # unlimited is a huge number: the machine's is less
        used = partial(_group_used, folder, "memory.usage_in_bytes", "total_inactive_file")
        yield from ((limit, used) for limit in _numbers(folder / "memory.limit_in_bytes"))


def _group_used(folder: Path, usage: str, dropped_at_need: str) -> int:
    """As the kubelet reckons before it evicts."""
    used = next(_numbers(folder / usage), 0)
    cached = _fields(folder / "memory.stat").get(dropped_at_need)
    return 0 if cached is None else max(0, used - cached)


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


def _fields(file: Path) -> dict[str, int]:
    """Of lines such as `inactive_file 4096`, by the first word."""
    found = {}
    for line in _lines(file):
        with suppress(ValueError, IndexError):
            name, number = line.split()[:2]
            found[name] = int(number)
    return found


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []
