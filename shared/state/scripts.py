"""The Lua scripts by name. One job per file; `--@include x` puts `lua/x.lua` in its place."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

_INCLUDE = re.compile(r"^--@include (\w+)$", re.MULTILINE)


@cache
def script(name: str) -> str:
    """The text of `lua/<name>.lua`, ready for EVAL."""
    return _INCLUDE.sub(lambda match: _read(match[1]), _read(name))


def _read(name: str) -> str:
    return resources.files(__package__).joinpath("lua", f"{name}.lua").read_text("utf-8")
