"""The habits that all commands share: `--json`, `--yes`, a question before harm, a progress bar.

Exit codes are those of `shared.cli.main`. Every command's help ends with a line `Example: …`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import click

MANY = 50  #: fewer steps are done before anybody could read a bar

#: What a terminal obeys instead of showing: controls, and marks that turn the direction of text.
_OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

T = TypeVar("T")

json_option = click.option("--json", "as_json", is_flag=True, help="For other programs.")
#: For every command that destroys something; it calls `confirm` before.
yes_option = click.option("--yes", is_flag=True, help="Don't ask.")


def harmless(text: object) -> str:
    """What somebody wrote, for a terminal: nothing in it moves the cursor or hides a word."""
    return _OBEYED.sub(lambda found: ascii(found[0])[1:-1], str(text))


def confirm(question: str, yes: bool) -> None:
    """Ask on a terminal before what can't be undone; standard output stays for the result.

    Raises:
        click.UsageError: there is nobody to ask, and no --yes (exit code 2).
        click.Abort: the answer was no (exit code 1).
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("this can't be undone: repeat with --yes")
    click.confirm(question, abort=True, err=True)


def doing(what: str) -> None:
    """Say what is begun and may take long, if somebody looks on."""
    if sys.stderr.isatty():
        click.echo(what, err=True)


@contextmanager
def progress(items: Collection[T], label: str) -> Iterator[Iterable[T]]:
    """`items`, to be gone through under a bar where they are many and somebody looks on."""
    if len(items) < MANY or not sys.stderr.isatty():
        yield items
        return
    with click.progressbar(items, label=label, file=sys.stderr) as bar:
        yield bar
