"""`clawdbot …`: the console script. A subcommand's room is imported when it is chosen."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping

import click

from shared.errors import ClawdBotError, ConfigError

COMMANDS: Mapping[str, str] = {
    "addresses": "workers.ops.addresses:addresses",
    "audit": "workers.ops.auditing:audit",
    "config": "workers.ops.config:config",
    "conversation": "workers.ops.conversations:conversation",
    "dead": "workers.ops.letters:dead",
    "doctor": "workers.ops.doctor.command:doctor",
    "flower": "workers.ops.flower:flower",
    "forget": "workers.ops.forgetting:forget",
    "keys": "workers.ops.keyring:keys",
    "metrics": "workers.ops.scraping:metrics",
    "queue": "workers.ops.overview:queue",
    "trace": "workers.ops.tracing:trace",
    "usage": "workers.ops.usage:usage",
}


class LazyCommands(click.Group):
    """A group whose commands are named in `COMMANDS`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.command(cls=LazyCommands, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Look into a running ClawdBot: its lanes, its dead letters, one event's way, its use.

    Exit codes: 0 done, 1 could not be done, 2 wrong usage or settings.

    Example: clawdbot queue --json
    """


def main() -> None:
    """Exit code 0: done · 1: it could not be done · 2: wrong usage or settings."""
    try:
        cli()
    except ConfigError as error:
        sys.stderr.write("\n".join(error.problems) + "\n")
        sys.exit(2)
    except ClawdBotError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(1)
