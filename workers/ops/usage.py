"""`clawdbot usage`: who used most, by day, summed up by bot, group, person or company."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

import click

from shared.config.settings import DEFAULT_BOT, Bot
from shared.local_time import local_day
from shared.state.keys import USAGE_DAYS, BotKeys
from workers.ops.context import Operator, operator, show_json
from workers.ops.habits import json_option, progress
from workers.usage import KINDS

OTHERS = "(others)"  #: who used so little that a busy bot's day counts them together


@dataclass
class Sums:
    """What one consumer used. scope: the bot it belongs to; a company's is its platform."""

    scope: str
    consumer: str
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def add(self, counted: str) -> None:
        """Take in a field of one day's hash."""
        requests, prompt, completion = map(int, counted.split())
        self.requests += requests
        self.prompt_tokens += prompt
        self.completion_tokens += completion


@click.command()
@click.option("--bot", "bot_name", default="", help="Only this bot: its name, or its app id.")
@click.option("--by", type=click.Choice(KINDS), default="user", show_default=True)
@click.option(
    "--days",
    type=click.IntRange(1, USAGE_DAYS),
    default=1,
    show_default=True,
    help="Today and the days before it.",
)
@click.option("--top", type=click.IntRange(1), default=20, show_default=True, help="Lines to show.")
@json_option
def usage(bot_name: str, by: str, days: int, top: int, as_json: bool) -> None:
    """Who used most: answered messages, tokens of prompts and of answers.

    Days begin at midnight of CLAWDBOT_TIMEZONE.

    Example: clawdbot usage --by group --days 7 --top 10
    """
    with operator() as op:
        found = consumers(op, _chosen(op, bot_name), by, days)[:top]
    if as_json:
        show_json([_row(sums) for sums in found])
    else:
        _show(found)


def consumers(op: Operator, bots: list[Bot], by: str, days: int) -> list[Sums]:
    """Everybody of that kind, who used most first; those counted together come last."""
    found: dict[tuple[str, str], Sums] = {}
    kind = "user" if by == "bot" else by  # each event has its field of kind "user"
    for bot, name, counted in _counted(op, bots, kind, days):
        scope = bot.platform if by == "tenant" else f"{bot.platform}:{bot.app_id}"
        consumer = _title(bot) if by == "bot" else name or OTHERS
        found.setdefault((scope, consumer), Sums(scope, consumer)).add(counted)
    return sorted(found.values(), key=lambda s: (s.consumer == OTHERS, -s.tokens, -s.requests))


def _counted(op: Operator, bots: list[Bot], kind: str, days: int) -> Iterator[tuple[Bot, str, str]]:
    today = _today(op)
    wanted = [(bot, day) for bot in bots for day in range(today - days + 1, today + 1)]
    with progress(wanted, "adding up") as found:
        for bot, day in found:
            key = BotKeys(bot.platform, bot.app_id).usage(day)
            for field, counted in op.client.hgetall(key).items():
                field_kind, _, name = field.partition(":")
                if field_kind == kind:
                    yield bot, name, counted


def _today(op: Operator) -> int:
    seconds, _ = op.client.time()
    return local_day(ZoneInfo(op.settings.timezone), seconds * 1000)


def _chosen(op: Operator, name: str) -> list[Bot]:
    bots = op.settings.all_bots()
    if not name:
        return list(bots)
    chosen = [bot for bot in bots if name in (_title(bot), bot.app_id)]
    if not chosen:
        known = ", ".join(map(_title, bots)) or "none"
        raise click.ClickException(f"--bot {name}: there is no such bot; the bots are: {known}")
    return chosen


def _title(bot: Bot) -> str:
    """The default bots have one name together: they are told apart by their platform."""
    return bot.platform if bot.name == DEFAULT_BOT else bot.name


def _row(sums: Sums) -> dict[str, Any]:
    return {
        "scope": sums.scope,
        "consumer": sums.consumer,
        "requests": sums.requests,
        "prompt_tokens": sums.prompt_tokens,
        "completion_tokens": sums.completion_tokens,
        "tokens": sums.tokens,
    }


def _show(found: list[Sums]) -> None:
    if not found:
        click.echo("nothing was used")
        return
    click.echo(f"{'requests':>10} {'prompt':>12} {'answer':>12} {'tokens':>12}  consumer")
    for sums in found:
        figures = f"{sums.prompt_tokens:>12} {sums.completion_tokens:>12} {sums.tokens:>12}"
        click.echo(f"{sums.requests:>10} {figures}  {sums.consumer}  ({sums.scope})")
