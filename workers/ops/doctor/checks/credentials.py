"""Whether every bot's platform gives an access token for its credentials."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from urllib.parse import urlsplit

from shared.config import Bot
from shared.errors import PermanentError, RateLimitedError, TaskError
from shared.platforms import PLATFORMS, load
from shared.platforms.base import Outbound
from workers.app_secrets import fetch_token
from workers.deadline import Deadline
from workers.ops.doctor.check import together
from workers.ops.doctor.checks.signatures import title
from workers.ops.doctor.finding import Finding, failed, ok, skipped, warning
from workers.ops.doctor.subject import Subject

TIMEOUT_S = 10.0


def look(subject: Subject) -> Iterator[Finding]:
    """One finding for each bot."""
    bots = subject.settings.all_bots()
    if not bots:
        yield skipped("no bot is configured")
    yield from together([partial(_about, subject, bot) for bot in bots])


def _about(subject: Subject, bot: Bot) -> Iterator[Finding]:
    outbound: Outbound = load(PLATFORMS[bot.platform].outbound)(bot.settings)
    host = urlsplit(outbound.token_requests()[0].url).netloc
    deadline, started = Deadline(TIMEOUT_S), time.monotonic()
    try:
        fetched = fetch_token(outbound, lambda request: subject.http.send(request, deadline))
    except TaskError as error:
        yield _refused(bot, host, error)
        return
    took_ms = (time.monotonic() - started) * 1000
    good_min = fetched.token.expires_in_s / 60
    seen = f"{title(bot)}: {host} gave a token in {took_ms:.0f} ms, good for {good_min:.0f} min"
    yield _with_a_later_secret(seen, len(fetched.refusals)) if fetched.refusals else ok(seen)


def _with_a_later_secret(seen: str, refused: int) -> Finding:
    return warning(
        f"{seen}, for secret {refused + 1} of the list; refused before it: {refused}",
        "Replies are sent. The platform doesn't know the secret listed first (yet).",
        "in a rotation: change it in the developer console; else take the wrong one off the list",
    )


def _refused(bot: Bot, host: str, error: TaskError) -> Finding:
    seen = f"{title(bot)}: {host}: {error}"
    if isinstance(error, RateLimitedError):
        return warning(
            seen,
            "The platform limits this app's calls at the moment; replies may be late.",
            "wait; if it stays so, look at the app's quota in the developer console",
        )
    if isinstance(error, PermanentError):
        return _not_the_platform(seen) if _has_no_word_of_it(error) else _unwelcome(seen)
    return failed(
        seen,
        "Replies can't be sent from here; they are retried for half an hour, then dead letters.",
        "look at DNS, firewall and proxy (HTTPS_PROXY, REQUESTS_CA_BUNDLE) of this machine",
        f"curl -sv https://{host}/ -o /dev/null",
    )


def _has_no_word_of_it(error: PermanentError) -> bool:
    """A status without a code, or nothing that could be asked: see the rooms' `errors.py`."""
    return ":http_" in error.code or error.code.startswith("http:")


def _not_the_platform(seen: str) -> Finding:
    return failed(
        seen,
        "What answers there is not the platform: no reply can be sent.",
        "correct this bot's API_BASE, or have the proxy on the way let the platform through",
        "clawdbot config show",
    )


def _unwelcome(seen: str) -> Finding:
    return failed(
        seen,
        "The platform refuses this app; its own words are above. No reply can be sent.",
        "copy id and secret anew from the app's page in the developer console (of a list, every "
        "one was tried); if the app has a list of allowed addresses, add this machine's",
        "clawdbot doctor --only credentials",
    )
