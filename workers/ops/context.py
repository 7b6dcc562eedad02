"""What every operator's command needs: settings, Redis, the bots' keys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any

import click
import redis
from redis.exceptions import RedisError

from shared import audit
from shared.config import Settings
from shared.envelope import hint_templates
from shared.errors import StateUnavailableError
from shared.messages import digest
from shared.state.keys import BotKeys
from shared.trace_context import PADDING
from workers.audit.stream import ActionStream
from workers.ops.config_desk import look_around, tell_faults
from workers.redis_client import connect
from workers.store import Lanes


@dataclass(frozen=True)
class Operator:
    """A connection to the running gateway."""

    settings: Settings
    client: redis.Redis
    bots: list[BotKeys]

    @cached_property
    def lanes(self) -> Lanes:
        """The scripts, called by nobody's worker."""
        return Lanes(self.client, owner="clawdbot", templates=hint_templates())

    def chosen(self, name: str) -> list[BotKeys]:
        """The bot that --bot names; every bot for an empty name.

        Raises:
            click.BadParameter: there is no such bot.
        """
        bots = [bot for bot in self.bots if name in ("", bot.prefix)]
        if not bots:
            names = ", ".join(bot.prefix for bot in self.bots)
            message = f"there is no bot {name}; there are: {names}"
            raise click.BadParameter(message, param_hint="--bot")
        return bots

    def find(self, name: str) -> tuple[BotKeys, str] | None:
        """The event that `name` (trace id, ours or the W3C's, or a message id) stands for."""
        own = name.removeprefix(PADDING)
        for bot in self.bots:
            for trace_id in (own, digest(bot.platform, bot.app_id, name)):
                if self.client.exists(bot.event(trace_id)):
                    return bot, trace_id
        return None

    def must_find(self, name: str) -> tuple[BotKeys, str]:
        """As `find`.

        Raises:
            click.ClickException: no bot knows it.
        """
        found = self.find(name)
        if found is None:
            raise click.ClickException(
                f"{name}: no such event. It takes a trace id or a message id of the platform; "
                "finished events are kept for 24 h."
            )
        return found


@contextmanager
def operator() -> Iterator[Operator]:
    """Connect by the settings that a process would start with now, the centre's included.

    Raises:
        ConfigError: the settings can't be used.
        StateUnavailableError: Redis does not answer.
    """
    follower = look_around()
    settings = follower.loaded.settings
    bots = [BotKeys(bot.platform, bot.app_id) for bot in settings.all_bots()]
    audit.configure("clawdbot", **settings.log.files)
    client = connect(settings, max_connections=2)
    try:
        client.ping()
        tell_faults(follower)
        with audit.kept_by(partial(_keep, ActionStream(client))):
            yield Operator(settings, client, bots)
    except RedisError as error:
        message = f"Redis can't be used ({type(error).__name__}): check CLAWDBOT_REDIS__URL"
        raise StateUnavailableError(message) from error
    finally:
        client.close()


def _keep(stream: ActionStream, action: audit.Action) -> None:
    try:
        stream.keep(action)
    except RedisError as error:
        why = type(error).__name__
        click.echo(f"{action.name}: done, but not kept in Redis's audit trail ({why})", err=True)


def show_json(value: Any) -> None:
    """Print JSON for other programs."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def instant(ms: int) -> str:
    """A time of Redis's clock, in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
