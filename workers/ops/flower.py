"""`clawdbot flower`: Flower, never without a password."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Mapping, Sequence

import click

from shared.config import load_settings
from workers.flower_address import PASSWORD, is_empty, passwords

USER = "clawdbot"


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def flower(arguments: tuple[str, ...]) -> None:
    """Flower (queues, workers, tasks) behind a password; ARGUMENTS are its own.

    The password is FLOWER_BASIC_AUTH=user:password. When that is not set, one is made up and shown.

    Example: clawdbot flower --address=0.0.0.0 --port=5555
    """
    load_settings()  # a fault is told here, not by a traceback of Celery's
    environ = dict(os.environ)
    if not _asks_for_a_password(arguments, environ):
        password = secrets.token_urlsafe(12)
        environ[PASSWORD] = f"{USER}:{password}"
        click.echo(f"Flower: user {USER}, password {password} (set {PASSWORD} to choose them)")
    sys.stdout.flush()
    command = [sys.executable, "-m", "celery", "-A", "workers", "flower", *arguments]
    os.execvpe(command[0], command, environ)


def _asks_for_a_password(arguments: Sequence[str], environ: Mapping[str, str]) -> bool:
    for argument in arguments:
        if not argument.startswith("-"):  # Flower would read none of those behind it
            raise click.UsageError(f"{argument}: Flower's options are written --name=value")
    given = passwords(arguments, environ)
    for name, value in given.items():
        if is_empty(value):
            raise click.UsageError(f"{name}: an empty password is none; set it, or leave it out")
    return bool(given)
