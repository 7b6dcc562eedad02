"""What a running stack leaves in .run for the commands that come later."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from compose.local.problems import StackError
from compose.local.supervisor import SOCKET_NAME

_FILE = Path(".run", "stack.json")
_OLD_STOP_S = 80


@dataclass(frozen=True, slots=True)
class StackState:
    """What `make down`, `status` and the watcher have to know.

    sockets: the folder of the unix sockets.
    page: what to open, as (words, address).
    stop_s: the longest that the programs may take to stop.
    """

    sockets: str
    ready_url: str
    page: tuple[tuple[str, str], ...]
    stop_s: int

    @property
    def supervisor_socket(self) -> Path:
        return Path(self.sockets, SOCKET_NAME)

    @classmethod
    def read(cls, root: Path) -> StackState:
        """The state of the stack in `root`.

        Raises:
            StackError: there is none.
        """
        try:
            told = json.loads((root / _FILE).read_text("utf-8"))
            page = tuple((words, url) for words, url in told["page"])
            # A stack of an older version, which `make down` stops after `git pull`, tells no time.
            return cls(told["sockets"], told["ready_url"], page, told.get("stop_s", _OLD_STOP_S))
        except FileNotFoundError:
            raise StackError("the stack is not up; `make up` starts it") from None
        except (ValueError, KeyError, TypeError) as error:
            raise StackError(f"{_FILE} can't be understood; run `make down`") from error

    def write(self, root: Path) -> None:
        write_private(root / _FILE, json.dumps(asdict(self), indent=1) + "\n")

    @staticmethod
    def remove(root: Path) -> None:
        (root / _FILE).unlink(missing_ok=True)


def write_private(file: Path, text: str) -> None:
    """Write in one step, readable by the owner alone."""
    draft = file.with_name(f"{file.name}.draft")
    draft.unlink(missing_ok=True)
    with open(
        os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
    ) as out:
        out.write(text)
    draft.replace(file)
