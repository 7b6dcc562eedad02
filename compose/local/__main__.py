"""`python -m compose.local up|down|status|logs`: the stack on this machine, without containers."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from compose.local.problems import StackError
from compose.local.programs import RUN
from compose.local.readiness import probe
from compose.local.stack import Stack
from compose.local.state import StackState
from shared.errors import ConfigError

_EXIT_CONFIG = 2


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m compose.local", description=__doc__)
    parser.add_argument("command", choices=("up", "down", "status", "logs"))
    command = parser.parse_args().command
    signal.signal(signal.SIGTERM, _end)
    try:
        return run(command, Path.cwd(), os.environ)
    except ConfigError as error:
        print(*(f"settings: {problem}" for problem in error.problems), sep="\n", file=sys.stderr)
        return _EXIT_CONFIG
    except StackError as error:
        print(f"make {command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def run(command: str, root: Path, environ: Mapping[str, str]) -> int:
    """Do one command for the project in `root`; returns the exit code."""
    stack = Stack(root, environ, _say)
    if command == "up":
        stack.up()
    elif command == "down":
        stack.down()
    elif command == "logs":
        _follow(root / RUN / "logs")
    else:
        return _status(stack, root)
    return 0


def _status(stack: Stack, root: Path) -> int:
    """Exit code 0 only when everything runs and is ready."""
    states = stack.states()
    for state in states:
        _say(f"{state.name:<16} {state.label:<9} {state.description}")
    status, body = probe(StackState.read(root).ready_url)
    _say(body)
    return 0 if status == 200 and all(state.is_running for state in states) else 1


def _follow(logs: Path) -> None:
    files = sorted(str(file) for file in logs.glob("*.log"))
    if not files:
        raise StackError("there are no logs yet; `make up` starts the stack")
    sys.stdout.flush()
    os.execvp("tail", ["tail", "-n", "50", "-F", *files])


def _say(text: str) -> None:
    print(text, flush=True)


def _end(number: int, frame: FrameType | None) -> None:
    """SIGTERM is handled like Ctrl-C: what was started is stopped again."""
    del number, frame
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
