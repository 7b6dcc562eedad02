"""The pair that the hook makes. Nobody else has its secret, so it is in the ring at once."""

from __future__ import annotations

import time

import click
from redis.exceptions import RedisError

from shared.errors import StateUnavailableError
from shared.state.key_ring import KeyRing
from workers.keys.pair import KeyPair
from workers.ops.habits import doing
from workers.ops.key_desk import Desk
from workers.ops.pairs import HOOK_TIMEOUT_S, from_hook, read_pair

KEEP_S = 60.0  #: for this long a Redis that is away is asked again to take the pair
PAUSE_S = 1.0
LEASE_S = HOOK_TIMEOUT_S + KEEP_S + 30  #: of the only one who makes a pair


def made_pair(desk: Desk, *, least_days: int = 0) -> tuple[KeyPair, KeyRing]:
    """A pair from `keys.generate_command`, the ring's next key from now on.

    Raises:
        click.ClickException: none was made, or it could not be kept; the text says which.
    """
    command = desk.settings.keys.generate_command
    if not command:
        raise click.UsageError(
            "where is the new pair? give --stdin or --file, or set CLAWDBOT_KEYS__GENERATE_COMMAND"
        )
    with desk.alone(LEASE_S):  # two that find room at the same time make a pair too many
        desk.check_room()
        pair = read_pair(from_hook(command, desk.name), needs_id=desk.needs_id)
        return pair, _kept(desk, pair, least_days)


def _kept(desk: Desk, pair: KeyPair, least_days: int) -> KeyRing:
    """The ring with `pair`, whatever it takes: else the pair has to be revoked."""
    end = time.monotonic() + KEEP_S
    try:
        while True:
            try:
                return desk.add(pair, least_days=least_days, again=True)
            except (RedisError, StateUnavailableError) as error:
                if time.monotonic() >= end:
                    why = f"Redis can't be used ({type(error).__name__})"
                    raise click.ClickException(why) from error
            doing("Redis does not take the new pair: trying again")
            time.sleep(PAUSE_S)
    except click.ClickException as error:  # that, or somebody gave the ring another next key
        raise _lost(pair, error.message) from error
    except KeyboardInterrupt:
        raise _lost(pair, "interrupted") from None


def _lost(pair: KeyPair, why: str) -> click.ClickException:
    name = f"pair {pair.ak_id}" if pair.ak_id else f"key {pair.id}, the newest there,"
    return click.ClickException(
        f"{why}. The new {name} was made in the cloud and could not be kept: its secret is lost, "
        "so revoke it there"
    )
