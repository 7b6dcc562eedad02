"""What a running stack leaves for `make down`, also for that of a newer version."""

from __future__ import annotations

import json
from pathlib import Path

from compose.local.state import StackState

STATE = StackState("/tmp/s", "http://127.0.0.1:1/ready", (("Ready?", "http://x/"),), stop_s=155)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    (tmp_path / ".run").mkdir()
    STATE.write(tmp_path)

    assert StackState.read(tmp_path) == STATE


def test_a_stack_of_a_version_that_told_no_time_can_be_stopped(tmp_path: Path) -> None:
    (tmp_path / ".run").mkdir()
    STATE.write(tmp_path)
    file = tmp_path / ".run/stack.json"
    told = json.loads(file.read_text())
    del told["stop_s"]
    file.write_text(json.dumps(told))

    assert StackState.read(tmp_path).sockets == STATE.sockets
    assert StackState.read(tmp_path).stop_s > 0
