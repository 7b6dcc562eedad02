"""Flower's own ways to be given a password, and where it listens without one."""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping, Sequence

PASSWORD = "FLOWER_BASIC_AUTH"  #: user:password, several with commas
_MAIL = "FLOWER_AUTH"  #: a pattern of mail addresses, proved by Google or others
_ADDRESS = "FLOWER_ADDRESS"
#: The same as arguments. https://flower.readthedocs.io/en/latest/auth.html
_ASKING = re.compile(r"-+(basic[-_]auth|auth)(?:=(.*))?")


def passwords(arguments: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """What is given, by what it is given with."""
    given = {name: environ[name] for name in (PASSWORD, _MAIL) if environ.get(name)}
    for argument in arguments:
        if found := _ASKING.fullmatch(argument):
            given[f"--{found[1]}"] = found[2] or ""
    return given


def is_empty(password: str) -> bool:
    """Whether one of them, at least, lets everybody in."""
    return not all(part.strip() for part in password.split(","))


def keep_at_home(arguments: Sequence[str], environ: MutableMapping[str, str]) -> None:
    """Without a password, let Flower listen on this machine alone unless it is told where.

    Its own default is every address, where its users may stop workers. It reads this variable
    after our app is loaded; its arguments and its configuration file are stronger.
    """
    given = passwords(arguments, environ)
    if not given or any(is_empty(password) for password in given.values()):
        environ.setdefault(_ADDRESS, "127.0.0.1")
