"""Reading the configuration centre for an operator, and changing what it holds in Redis."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread

import click
import redis
from redis.client import Pipeline

from shared.config.center import redis_fault
from shared.config.follow import Follower, make_follower
from shared.config.known import dotted_path
from shared.errors import ConfigError
from shared.state import keys
from workers.config_center import first_look

LOOK_S = 3.0  #: for all that Redis takes, its name's look-up included

Values = dict[str, str]  #: dotted name to text


def look_around() -> Follower:
    """The settings of here and now, with the centre's, if they can be read in time and used.

    Raises:
        ConfigError: what is written elsewhere can't be used.
    """
    follower = make_follower()
    looking = Thread(target=first_look, args=(follower,), name="config center", daemon=True)
    looking.start()
    looking.join(LOOK_S)
    if not looking.is_alive():
        return follower
    in_time = make_follower()  # that thread may still change the other
    in_time.look_at_file()
    in_time.miss("redis", TimeoutError())
    return in_time


def faults(follower: Follower) -> list[str]:
    """What the centre says, or may say, and is not in force here: a sentence each."""
    refused = [
        f"not taken from the configuration centre: {problem}"
        for problems in follower.refused.values()
        for problem in problems
    ]
    return [*refused, *not_read(follower)]


def not_read(follower: Follower) -> list[str]:
    """A sentence for each place of the centre that could not be read."""
    return [
        f"the configuration centre could not be read ({source}): its values are not known here"
        for source in sorted(follower.away)
    ]


def tell_faults(follower: Follower) -> None:
    """On stderr."""
    for fault in faults(follower):
        click.echo(fault, err=True)


class Desk:
    """What `clawdbot config` may do with the hash in Redis. Nothing is written unchecked."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def values(self) -> Values:
        """All that is set."""
        found: Values = self._client.hgetall(keys.CONFIG)
        return found

    def set(self, name: str, value: str) -> None:
        """Set one.

        Raises:
            ConfigError: the settings could not be used then, or this one must not be in Redis.
        """
        path = dotted_path(name)
        plain = ".".join(path)
        if fault := redis_fault(path):
            raise ConfigError([f"{plain} {fault}"])
        follower = make_follower()
        if not follower.reads_redis:
            raise ConfigError(["CLAWDBOT_CONFIG_CENTER__REDIS is false: nobody would read it"])
        follower.look_at_file()

        def step(values: Values, pipe: Pipeline) -> None:
            _problems(follower, values)  # puts them in force
            if problems := _problems(follower, {**values, plain: value}):
                raise ConfigError(list(problems))
            pipe.hset(keys.CONFIG, plain, value)

        self._change(step)

    def unset(self, name: str) -> None:
        """Take one out. What could not be used before may stay so: that is how it is mended.

        Raises:
            ConfigError: the settings can be used now, and could not be then.
            click.ClickException: it is not set.
        """
        plain = ".".join(dotted_path(name))
        follower = make_follower()
        follower.look_at_file()

        def step(values: Values, pipe: Pipeline) -> None:
            spelled = [given for given in values if ".".join(dotted_path(given)) == plain]
            if not spelled:
                raise click.ClickException(f"{plain} is not set in the configuration centre")
            rest = {given: value for given, value in values.items() if given not in spelled}
            is_usable = not _problems(follower, values)
            if (problems := _problems(follower, rest)) and is_usable:
                raise ConfigError(list(problems))
            pipe.hdel(keys.CONFIG, *spelled)

        self._change(step)

    def _change(self, step: Callable[[Values, Pipeline], None]) -> None:
        """Others may change it meanwhile: then once more, from the start."""

        def transaction(pipe: Pipeline) -> None:
            values: Values = pipe.hgetall(keys.CONFIG)
            pipe.multi()
            step(values, pipe)

        self._client.transaction(transaction, keys.CONFIG)


def _problems(follower: Follower, values: Values) -> tuple[str, ...]:
    follower.take_hash(values)
    follower.look_at_file()  # it may need what is there now
    return follower.refused.get("redis", ())
