"""Where an operator's new pair comes from: standard input, a file, or the hook command."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import click

from workers.keys.pair import KeyPair

HOOK_TIMEOUT_S = 120
HOOK_MODEL = "KEYS_MODEL"  #: tells the hook which model the pair is for

_NAMES = {"akId": "ak_id", "ak_id": "ak_id", "akSecret": "secret", "ak_secret": "secret"}


def from_stdin() -> str:
    """What is piped in; on a terminal, a line that is not shown while it is typed."""
    if sys.stdin.isatty():
        text: str = click.prompt("secret, or the pair as JSON", hide_input=True)
        return text
    return sys.stdin.read()


def from_file(file: Path) -> str:
    """Raises: click.ClickException, when it can't be read."""
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise click.ClickException(f"--file {file} can't be read: {reason}") from error


def from_hook(command: str, model: str) -> str:
    """What `keys.generate_command` prints; its errors go to the terminal.

    Raises:
        click.ClickException: it can't be run, failed, or took too long.
    """
    try:
        done = subprocess.run(
            shlex.split(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env={**os.environ, HOOK_MODEL: model},
            timeout=HOOK_TIMEOUT_S,
            check=False,
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no command line"
        raise click.ClickException(f"keys.generate_command can't be run: {reason}") from error
    except subprocess.TimeoutExpired:
        message = f"keys.generate_command was not done after {HOOK_TIMEOUT_S} s"
        raise click.ClickException(message) from None  # its error holds what was printed
    if done.returncode:
        raise click.ClickException(
            f"keys.generate_command ended with exit code {done.returncode}; nothing was changed"
        )
    return done.stdout.decode("utf-8", "replace")


def read_pair(text: str, *, needs_id: bool) -> KeyPair:
    """The pair in `text`: JSON with akId and akSecret, or a secret alone.

    Raises:
        click.ClickException: it is neither; the text is never repeated.
    """
    text = text.strip()
    fields = _fields(text) if text.startswith("{") else {"secret": text}
    pair = KeyPair(fields.get("ak_id", ""), fields.get("secret", ""))
    if not pair.secret:
        raise click.ClickException('there is no secret; expected {"akId": …, "akSecret": …}')
    if not all(_is_plain(part) for part in (pair.ak_id, pair.secret)):
        raise click.ClickException(
            "the pair holds spaces, line ends or other characters no key has"
        )
    if needs_id and not pair.ak_id:
        raise click.ClickException(
            'this model exchanges a pair: give {"akId": …, "akSecret": …}, not a secret alone'
        )
    return pair


def _fields(text: str) -> dict[str, str]:
    try:
        value = json.loads(text)
    except ValueError:
        raise click.ClickException("it starts like JSON but is not") from None
    known = {_NAMES[name]: text for name, text in value.items() if name in _NAMES}
    if not all(isinstance(text, str) for text in known.values()):
        raise click.ClickException("akId and akSecret must be texts")
    return known


def _is_plain(part: str) -> bool:
    return part.isascii() and part.isprintable() and " " not in part
