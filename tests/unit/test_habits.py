"""What all commands do alike, at a real terminal and without one."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple

import pytest

from workers.ops.habits import harmless

ROOT = Path(__file__).parents[2]
COMMAND = """
import click
from workers.ops.habits import confirm, progress

@click.command()
def command():
    {body}

command()
"""
ASK = "confirm('forget it?', False); print('done')"
WORK = """
    with progress(range({steps}), "working") as steps:
        print(sum(1 for _ in steps))
"""


class Ended(NamedTuple):
    """How a command ended. terminal: all that its terminal showed."""

    code: int
    out: str
    err: str
    terminal: str


class Terminal:
    """A terminal that somebody types on."""

    def __init__(self) -> None:
        self._ours, self.theirs = pty.openpty()
        self._shown: list[bytes] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def close(self) -> str:
        """All that it showed."""
        os.close(self.theirs)
        self._reader.join(10)
        os.close(self._ours)
        return b"".join(self._shown).decode()

    def _read(self) -> None:
        while True:
            try:
                self._shown.append(os.read(self._ours, 4096))
            except OSError:  # Linux: the other end is closed
                return
            if not self._shown[-1]:  # macOS: likewise
                return


def run(body: str, *, types: str = "", stdin: bool = False, stderr: bool = False) -> Ended:
    """Run a command whose standard input or error is a terminal, or neither."""
    terminal = Terminal()
    terminal.type(types)
    done = subprocess.run(
        [sys.executable, "-c", COMMAND.format(body=body)],
        cwd=ROOT,
        stdin=terminal.theirs if stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=terminal.theirs if stderr else subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr or "", terminal.close())


def test_harm_is_refused_where_nobody_can_be_asked() -> None:
    ended = run(ASK)

    assert (ended.code, ended.out) == (2, "")
    assert "repeat with --yes" in ended.err


def test_a_yes_spares_the_question() -> None:
    assert run(ASK.replace("False", "True"))[:3] == (0, "done\n", "")


@pytest.mark.parametrize(("answer", "code", "out"), [("y\n", 0, "done\n"), ("n\n", 1, "")])
def test_on_a_terminal_one_is_asked(answer: str, code: int, out: str) -> None:
    ended = run(ASK, types=answer, stdin=True)

    assert (ended.code, ended.out) == (code, out), "the question is no part of the result"
    assert "forget it?" in ended.err


def test_many_steps_show_a_bar_on_a_terminal() -> None:
    ended = run(WORK.format(steps=200), stderr=True)

    assert (ended.code, ended.out) == (0, "200\n")
    assert "working" in ended.terminal
    assert "100%" in ended.terminal


@pytest.mark.parametrize(("steps", "is_terminal"), [(200, False), (10, True)])
def test_there_is_no_bar_for_a_program_or_a_moment(steps: int, is_terminal: bool) -> None:
    ended = run(WORK.format(steps=steps), stderr=is_terminal)

    assert ended == (0, f"{steps}\n", "", "")


def test_what_somebody_wrote_does_nothing_to_a_terminal() -> None:
    written = "你好 👩\u200d💻\tone\n\x1b[2J\x1b]0;title\x07 \u202edrow"

    shown = harmless(written)

    assert shown == "你好 👩\u200d💻\tone\n\\x1b[2J\\x1b]0;title\\x07 \\u202edrow"
