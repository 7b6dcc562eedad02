"""Counts of a forking pool: added up, kept when a child dies, gone with the worker."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import pytest

from shared.config.groups import Metrics as MetricsSettings
from tests.e2e.processes import wait_until
from tests.unit.test_stage import a_claim
from workers.forked_counts import ForkedCounts
from workers.measuring import Measuring
from workers.metrics_folder import VARIABLE
from workers.outcomes import Attempt

ROOT = Path(__file__).parents[2]


class Worker:
    """`forking_worker.py`, and what it says."""

    def __init__(self, temporary: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.forking_worker"],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(temporary)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.folder = Path(self._line())

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.kill()
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.stdout.close()

    def tell(self, words: str) -> str:
        assert self.process.stdin
        self.process.stdin.write(f"{words}\n")
        self.process.stdin.flush()
        return self._line()

    def fork(self, attempts: int) -> int:
        return int(self.tell(f"fork {attempts}"))

    def kill_child(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        assert self.tell(f"reap {pid}") == str(pid)

    def files(self) -> set[str]:
        return {file.name for file in self.folder.glob("*.db")}

    def histograms(self, pid: int) -> bytes:
        return (self.folder / f"histogram_{pid}.db").read_bytes()

    def stop(self) -> None:
        """As Celery ends: by itself."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(20)

    def kill(self) -> None:
        """With all that it forked."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(20)

    def _line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()


def test_the_counts_of_children_add_up_and_outlive_them(tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        first, second = worker.fork(3), worker.fork(4)
        assert worker.tell("show") == "7 7"

        worker.kill_child(first)
        assert worker.tell("show") == "7 7"
        assert worker.tell("fold") == "2", "a file of counters, one of histograms"
        assert worker.tell("show") == "7 7"

        worker.kill_child(second)
        third = worker.fork(1)
        assert worker.tell("fold") == "2"
        assert worker.tell("fold") == "0"
        assert worker.tell("show") == "8 8"
        assert worker.files() == {
            f"{kind}_{name}.db"
            for kind in ("counter", "histogram")
            for name in ("dead", third, worker.process.pid)
        }


def test_a_bot_is_shown_at_0_by_the_worker_and_is_in_no_file_of_an_idle_child(
    tmp_path: Path,
) -> None:
    with Worker(tmp_path) as worker:
        assert worker.tell("messages") == "0.0"
        idle, busy = worker.fork(0), worker.fork(3)

        assert worker.tell("messages") == "3.0"
        has_bot = [b"message_seconds" in worker.histograms(pid) for pid in (idle, busy)]
        assert has_bot == [False, True]
        worker.kill_child(busy)
        worker.tell("fold")
        assert worker.tell("messages") == "3.0"


def test_a_file_without_a_byte_ends_neither_folding_nor_scrapes(tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        child = worker.fork(3)
        worker.kill_child(child)
        assert worker.tell("fold") == "2"
        (worker.folder / f"counter_{child}.db").touch()

        assert worker.tell("fold") == "1"
        assert worker.tell("show") == "3 3"


def test_folding_goes_on_after_a_file_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    monkeypatch.setattr("workers.forked_counts.FOLD_INTERVAL_S", 0.01)
    unreadable = tmp_path / f"counter_{ended.pid}.db"
    unreadable.write_bytes(b"x")

    ForkedCounts(tmp_path).keep_folding()
    wait_until(lambda: "metrics.fold_failed" in caplog.text, 20, "a fault told")
    unreadable.write_bytes(b"")

    wait_until(lambda: not unreadable.exists(), 20, "folding again")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "clawdbot-test", str(disk)]
    if (
        not shutil.which("mount")
        or subprocess.run(mount, capture_output=True, check=False).returncode
    ):
        pytest.skip("mounting needs Linux and its root")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_children_of_a_worker_on_a_full_disk_live_and_count_for_themselves(
    small_disk: Path,
) -> None:
    with Worker(small_disk) as worker:
        filler = small_disk / "filler"
        fill(filler)
        assert worker.fork(3), "it died of a count"
        assert worker.tell("show") == "0 0"

        filler.unlink()
        assert worker.fork(4)
        assert worker.tell("show") == "4 4"


def test_a_worker_that_finds_no_room_starts_and_shows_nothing(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(small_disk))
    monkeypatch.delenv(VARIABLE, raising=False)
    fill(small_disk / "filler")
    measuring = Measuring(MetricsSettings())

    measuring.begin(forks=True)
    measuring.metrics.attempted("process", a_claim(), Attempt.OK, 0.3)

    assert measuring.show("node1") == ""
    assert "metrics.unavailable" in caplog.text


def fill(filler: Path) -> None:
    """All of the disk but some kilobytes."""
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass


def test_the_folder_goes_with_its_worker_and_a_new_one_begins_at_0(tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        worker.kill_child(worker.fork(5))
        worker.stop()
        assert not worker.folder.exists()

    with Worker(tmp_path) as again:
        assert again.tell("show") == "0 0"


def test_what_a_killed_worker_left_is_removed_by_the_next_but_not_a_live_ones(
    tmp_path: Path,
) -> None:
    with Worker(tmp_path) as killed, Worker(tmp_path) as alive:
        killed.kill()
        with Worker(tmp_path):
            assert not killed.folder.exists()
            assert alive.fork(2)
            assert alive.tell("show") == "2 2"
