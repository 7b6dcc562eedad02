"""`clawdbot doctor`: is everything as it should be, and if not, what is to be done."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

import click

from shared.config import Settings
from shared.errors import ConfigError
from workers.ops.config_desk import faults, look_around
from workers.ops.context import show_json
from workers.ops.doctor.check import Check, Outcome, Run
from workers.ops.doctor.finding import failed, skipped
from workers.ops.doctor.registry import BOUND_S, CHECKS, NAMES
from workers.ops.doctor.report import as_dict, has_failed, show, show_sum
from workers.ops.doctor.subject import Subject

FLOWER_URL = "http://127.0.0.1:5555"
NTP = ("ntp.aliyun.com", "pool.ntp.org")
EXIT_SETTINGS = 2

Tell = Callable[[Outcome], None]


def _origin(_: click.Context, __: click.Parameter, url: str | None) -> str | None:
    parts = urlsplit(url or "http://host")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise click.BadParameter(f"{url} does not begin with http://host or https://host")
    return url and url.rstrip("/")


@click.command(
    help=f"""Look at the whole deployment from here, and say what to do about what is wrong.

    Ends after {BOUND_S + 1:g} s at the latest, whatever is broken: the checks run side by side,
    each with a deadline. It changes nothing. It sends one signed message for each bot through the
    gateway; no model and no person sees it (docs/operations.md). With CLAWDBOT_PUBLIC_URL one
    unsigned call for each bot is refused, and stands in auth.log and its sums.

    Exit code 0: nothing failed · 1: something did · 2: wrong usage or settings.

    Checks: {", ".join(NAMES)}.

    Example: clawdbot doctor --fix-hints --only redis --only workers
    """
)
@click.option("--fix-hints", is_flag=True, help="Add commands and settings to copy.")
@click.option("--json", "as_json", is_flag=True, help="For other programs.")
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(NAMES),
    metavar="NAME",
    help="This check; more may be named.",
)
@click.option(
    "--ingress",
    metavar="URL",
    callback=_origin,
    help="Where the ingress is; default: this machine.",
)
@click.option(
    "--flower",
    metavar="URL",
    callback=_origin,
    default=FLOWER_URL,
    show_default=True,
    help="Where Flower is.",
)
@click.option(
    "--ntp", metavar="HOST", multiple=True, default=NTP, show_default=True, help="A time server."
)
def doctor(
    fix_hints: bool,
    as_json: bool,
    only: tuple[str, ...],
    ingress: str | None,
    flower: str,
    ntp: tuple[str, ...],
) -> None:
    started = time.monotonic()
    tell: Tell = (lambda _: None) if as_json else (lambda o: show(o, with_fixes=fix_hints))
    checks = [check for check in CHECKS if not only or check.name in only]
    exit_code = 0
    try:
        follower = look_around()
    except ConfigError as error:
        outcomes, exit_code = _without_settings(checks, error, tell), EXIT_SETTINGS
    else:
        settings = follower.loaded.settings
        url = ingress or local_url(settings)
        subject = Subject(settings, url, flower, ntp, faults(follower))
        outcomes = examine(checks, subject, tell)
    took_s = time.monotonic() - started
    if as_json:
        show_json(as_dict(outcomes, took_s))
    else:
        show_sum(outcomes, took_s, with_fixes=fix_hints)
    raise SystemExit(exit_code or int(has_failed(outcomes)))


def examine(checks: Sequence[Check], subject: Subject, tell: Tell) -> list[Outcome]:
    """Run them side by side; `tell` hears of each in their order."""
    outcomes = []
    for run in [Run(check, subject) for check in checks]:
        outcome = run.outcome()
        tell(outcome)
        outcomes.append(outcome)
    return outcomes


def local_url(settings: Settings) -> str:
    """Where an ingress of these settings is reached on this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def _without_settings(checks: Sequence[Check], error: ConfigError, tell: Tell) -> list[Outcome]:
    """Nothing can be looked at before the settings load: all of them told at once."""
    faults = tuple(
        failed(problem, "No program of the gateway starts with it.", "correct that setting")
        for problem in error.problems
    )
    first, *others = CHECKS
    outcomes = [Outcome(first, faults, 0.0)]
    nothing = (skipped("not looked at: the settings don't load"),)
    outcomes += [Outcome(check, nothing, 0.0) for check in others if check in checks]
    for outcome in outcomes:
        tell(outcome)
    return outcomes
