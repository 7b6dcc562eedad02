"""A file of several processes: no line lost, none torn, turned over by whoever finds it full."""

from __future__ import annotations

import errno
import fcntl
import io
import json
import logging
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from shared.log_files import SharedFile, Unhindered

WRITERS, LINES = 4, 1500
FULL = Path("/dev/full")
WRITE = """
import json, logging, sys
from pathlib import Path
from shared.log_files import SharedFile
handler = SharedFile(Path(sys.argv[1]), max_bytes=20_000, backups=90)
for number in range(int(sys.argv[3])):
    text = json.dumps({"writer": sys.argv[2], "number": number, "text": "x" * (number % 300)})
    handler.handle(logging.LogRecord("x", logging.INFO, "", 0, text, (), None))
"""


class Disk(io.StringIO):
    """Full, or not."""

    is_full = False

    def flush(self) -> None:
        if self.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def write(handler: SharedFile, text: str) -> None:
    handler.handle(logging.LogRecord("x", logging.INFO, "", 0, text, (), None))


def test_processes_that_write_and_turn_over_at_once_lose_and_tear_no_line(tmp_path: Path) -> None:
    file = tmp_path / "auth.log"
    command = [sys.executable, "-c", WRITE, str(file)]
    running = [subprocess.Popen([*command, str(n), str(LINES)]) for n in range(WRITERS)]
    assert [each.wait(60) for each in running] == [0] * WRITERS

    files = list(tmp_path.iterdir())
    lines = [json.loads(line) for each in files for line in each.read_text().splitlines()]

    written = {(line["writer"], line["number"]) for line in lines}
    assert len(lines) == len(written) == WRITERS * LINES
    assert len(files) > 5  # while one turns it over the others go on in the full one


def test_the_newest_files_are_kept_and_no_more(tmp_path: Path) -> None:
    file = tmp_path / "auth.log"
    handler = SharedFile(file, max_bytes=10, backups=2)
    for number in range(6):
        write(handler, f"line number {number}")
    handler.close()

    assert sorted(each.name for each in tmp_path.iterdir()) == [
        *("auth.log", "auth.log.1", "auth.log.2")
    ]
    assert (tmp_path / "auth.log.2").read_text() == "line number 3\n"
    assert file.read_text() == "line number 5\n"


def test_without_a_size_the_file_only_grows_until_it_is_moved(tmp_path: Path) -> None:
    file = tmp_path / "auth.log"
    handler = SharedFile(file, max_bytes=0, backups=2)
    write(handler, "x" * 100_000)
    write(handler, "here")
    file.rename(tmp_path / "moved")
    write(handler, "anew")
    handler.close()

    assert file.read_text() == "anew\n"
    assert len(list(tmp_path.iterdir())) == 2


def test_nobody_waits_for_a_process_that_stopped_in_the_middle(tmp_path: Path) -> None:
    file = tmp_path / "auth.log"
    handler = SharedFile(file, max_bytes=10, backups=2)
    folder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)  # as another process that was frozen
    write(handler, "a long first line")
    write(handler, "and a second one")
    os.close(folder)
    write(handler, "third")
    handler.close()

    assert (tmp_path / "auth.log.1").read_text() == "a long first line\nand a second one\n"
    assert file.read_text() == "third\n"


def test_what_cannot_be_written_is_one_line_of_complaint(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "no folder" / "auth.log"
    handler = SharedFile(file, max_bytes=10, backups=2, delay=True)
    file.parent.write_text("in the way")

    write(handler, "line")
    write(handler, "line")

    complaint = capfd.readouterr().err  # Pythons differ in the system's words for it
    assert re.fullmatch(rf"{re.escape(str(file))} can't be written: [A-Z][a-z ]+\n", complaint)


@pytest.mark.skipif(not FULL.exists(), reason="only Linux has a disk that is always full")
def test_of_a_line_that_a_full_disk_refuses_nothing_is_told_but_that(
    capfd: pytest.CaptureFixture[str],
) -> None:
    handler = SharedFile(FULL, max_bytes=0, backups=1)
    for _ in range(3):
        text, arguments = "%s told", ("session=SEC-12345",)
        handler.handle(logging.LogRecord("x", logging.INFO, "", 0, text, arguments, None))
    with suppress(OSError):
        handler.close()

    assert capfd.readouterr().err == "/dev/full can't be written: No space left on device\n"


def test_of_a_line_that_cannot_be_made_no_argument_is_told(
    capfd: pytest.CaptureFixture[str],
) -> None:
    handler = Unhindered(io.StringIO())
    handler.handle(logging.LogRecord("x", logging.INFO, "", 0, "%d", ("SEC-12345",), None))

    assert capfd.readouterr().err == "the log can't be written: TypeError\n"


def test_it_complains_again_only_when_it_could_write_in_between(
    capfd: pytest.CaptureFixture[str],
) -> None:
    stream = Disk()
    handler = Unhindered(stream)
    for stream.is_full in (True, True, False, True, True):
        handler.handle(logging.LogRecord("x", logging.INFO, "", 0, "line", (), None))

    assert capfd.readouterr().err.count("No space left on device") == 2
