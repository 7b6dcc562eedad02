"""The limits of a container, in both versions of cgroups, and of none."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared import cgroup
from shared.cgroup import Limits, limits

MACHINE_KB = 8_000_000
GIB = 1 << 30


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with eight cores."""
    monkeypatch.setattr(cgroup, "_usable_cores", lambda: 8)
    write(tmp_path, "proc/meminfo", f"MemTotal: {MACHINE_KB} kB\nMemFree: 5 kB\n")
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_without_a_group_it_is_the_machine(root: Path) -> None:
    assert limits(root) == Limits(8.0, MACHINE_KB * 1024)


def test_version_2_limits_hold(root: Path) -> None:
    write(root, "proc/self/cgroup", "0::/\n")
    write(root, "sys/fs/cgroup/memory.max", f"{GIB}\n")
    write(root, "sys/fs/cgroup/cpu.max", "150000 100000\n")

    assert limits(root) == Limits(1.5, GIB)


def test_version_2_without_limits_is_the_machine(root: Path) -> None:
    write(root, "proc/self/cgroup", "0::/app\n")
    write(root, "sys/fs/cgroup/app/memory.max", "max\n")
    write(root, "sys/fs/cgroup/app/cpu.max", "max 100000\n")

    assert limits(root) == Limits(8.0, MACHINE_KB * 1024)


def test_a_limit_of_a_group_above_holds_too(root: Path) -> None:
    write(root, "proc/self/cgroup", "0::/pods/one\n")
    write(root, "sys/fs/cgroup/pods/one/memory.max", f"{2 * GIB}\n")
    write(root, "sys/fs/cgroup/pods/memory.max", f"{GIB}\n")
    write(root, "sys/fs/cgroup/pods/one/cpu.max", "max 100000\n")
    write(root, "sys/fs/cgroup/pods/cpu.max", "50000 100000\n")

    assert limits(root) == Limits(0.5, GIB)


def test_version_1_limits_hold(root: Path) -> None:
    write(root, "proc/self/cgroup", "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n1:name=x:/\n")
    write(root, "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", f"{GIB}\n")
    write(root, "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "200000\n")
    write(root, "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us", "100000\n")

    assert limits(root) == Limits(2.0, GIB)


def test_version_1_in_a_container_whose_path_is_the_hosts(root: Path) -> None:
    write(root, "proc/self/cgroup", "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n")
    write(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", f"{GIB}\n")
    write(root, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n")
    write(root, "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")

    assert limits(root) == Limits(0.5, GIB)


def test_version_1_without_limits_is_the_machine(root: Path) -> None:
    write(root, "proc/self/cgroup", "4:memory:/\n3:cpu:/\n")
    write(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    write(root, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n")
    write(root, "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")

    assert limits(root) == Limits(8.0, MACHINE_KB * 1024)


def test_what_is_used_of_a_limit_is_that_of_the_group_whose_limit_it_is(root: Path) -> None:
    write(root, "proc/self/cgroup", "0::/pods/one\n")
    for group, limit, used in (("pods/one", 2 * GIB, 100_000), ("pods", GIB, 900_000)):
        write(root, f"sys/fs/cgroup/{group}/memory.max", f"{limit}\n")
        write(root, f"sys/fs/cgroup/{group}/memory.current", f"{used}\n")
        write(root, f"sys/fs/cgroup/{group}/memory.stat", "anon 5\ninactive_file 4096\n")

    assert limits(root) == Limits(8.0, GIB, 900_000 - 4096)


def test_version_1_tells_what_is_used_of_a_limit(root: Path) -> None:
    write(root, "proc/self/cgroup", "4:memory:/docker/abc\n")
    write(root, "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", f"{GIB}\n")
    write(root, "sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes", "900000\n")
    stat = "inactive_file 1\ntotal_inactive_file 4096\n"
    write(root, "sys/fs/cgroup/memory/docker/abc/memory.stat", stat)

    assert limits(root) == Limits(8.0, GIB, 900_000 - 4096)


def test_of_a_machine_is_used_what_is_not_available(root: Path) -> None:
    meminfo = f"MemTotal: {MACHINE_KB} kB\nMemFree: 5 kB\nMemAvailable: 3000000 kB\n"
    write(root, "proc/meminfo", meminfo)
    write(root, "proc/self/cgroup", "0::/app\n")
    write(root, "sys/fs/cgroup/app/memory.max", "max\n")
    write(root, "sys/fs/cgroup/app/memory.current", "900000\n")
    write(root, "sys/fs/cgroup/app/memory.stat", "inactive_file 4096\n")

    assert limits(root) == Limits(8.0, MACHINE_KB * 1024, (MACHINE_KB - 3_000_000) * 1024)


def test_a_use_that_can_not_be_told_from_cache_is_unknown(root: Path) -> None:
    write(root, "proc/self/cgroup", "0::/\n")
    write(root, "sys/fs/cgroup/memory.max", f"{GIB}\n")
    write(root, "sys/fs/cgroup/memory.current", "900000\n")

    assert limits(root) == Limits(8.0, GIB, 0)


def test_the_real_machine_has_limits() -> None:
    found = limits()

    assert found.cores > 0
    assert found.memory_used_bytes <= found.memory_bytes
