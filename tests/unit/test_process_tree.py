"""What a program and its children use, from a /proc that is made up, and from the real one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared import metrics, process_tree
from shared.resources import Resources

TICKS = os.sysconf("SC_CLK_TCK")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")


def process(proc: Path, pid: int, parent: int, *, cpu: tuple[int, int, int, int], kb: int) -> None:
    """cpu: user, system, and those of children that ended, in ticks. kb: proportional share."""
    folder = proc / str(pid)
    (folder / "task" / str(pid)).mkdir(parents=True)
    (folder / "task" / str(pid + 1000)).mkdir()
    (folder / "task" / str(pid) / "children").write_text("")
    (folder / "task" / str(pid + 1000) / "children").write_text("")
    if (siblings := proc / str(parent) / "task" / str(parent + 1000) / "children").exists():
        siblings.write_text(f"{siblings.read_text()}{pid} ")
    before = f"{pid} (a (odd) name) S {parent} " + "0 " * 9
    (folder / "stat").write_text(before + " ".join(map(str, cpu)) + " 20 0 1")
    (folder / "smaps_rollup").write_text(f"0-f [rollup]\nRss: 99999 kB\nPss:   {kb} kB\n")


def test_children_and_their_children_count_and_others_do_not(tmp_path: Path) -> None:
    process(tmp_path, 10, 1, cpu=(100, 20, 3, 1), kb=1000)
    process(tmp_path, 11, 10, cpu=(50, 0, 0, 0), kb=200)
    process(tmp_path, 12, 11, cpu=(5, 5, 0, 0), kb=30)
    process(tmp_path, 99, 1, cpu=(7000, 0, 0, 0), kb=5000)
    (tmp_path / "10/task/10/children").write_text("4711 ")  # it has ended by now

    used = process_tree.usage(10, tmp_path)

    assert used == process_tree.Usage(3, 184 / TICKS, 1230 * 1024)


def test_without_the_right_to_look_the_resident_memory_counts(tmp_path: Path) -> None:
    process(tmp_path, 10, 1, cpu=(1, 0, 0, 0), kb=1000)
    (tmp_path / "10/smaps_rollup").unlink()
    (tmp_path / "10/statm").write_text("500 7 1 1 0 1 0")

    used = process_tree.usage(10, tmp_path)

    assert used
    assert used.memory_bytes == 7 * os.sysconf("SC_PAGE_SIZE")


@on_linux
def test_a_child_counts_until_it_has_ended() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        assert child.pid in process_tree.children(os.getpid())
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie from now on
        assert child.pid not in process_tree.children(os.getpid())


def test_a_machine_without_proc_shows_nothing(tmp_path: Path) -> None:
    assert process_tree.children(10, tmp_path / "none") == []
    assert process_tree.usage(10, tmp_path / "none") is None
    assert process_tree.usage(10, tmp_path) is None


@on_linux
def test_cpu_and_memory_of_real_children_count_also_when_they_have_ended() -> None:
    before = process_tree.usage(os.getpid())
    busy = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True); input()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", busy], stdin=pipe, stdout=pipe) as child:
        assert child.stdout
        child.stdout.readline()
        during = process_tree.usage(os.getpid())
        child.communicate(b"\n")
    after = process_tree.usage(os.getpid())

    assert before
    assert during
    assert after
    assert during.processes == before.processes + 1
    assert during.cpu_s - before.cpu_s > 0.25
    assert after.processes == before.processes
    assert after.cpu_s >= during.cpu_s


@on_linux
def test_resources_are_shown_as_the_table_names_them() -> None:
    shown = {sample.name for family in Resources().collect() for sample in family.samples}
    ours = {
        *(metrics.CPU, metrics.CPU_LIMIT, metrics.PROCESSES),
        *(metrics.MEMORY, metrics.MEMORY_LIMIT, metrics.MEMORY_LIMIT_USED),
    }

    assert shown == {metric.name for metric in ours}
