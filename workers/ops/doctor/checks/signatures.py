"""Whether every bot tells the platform's calls from others', tried without a network."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

from shared.config import Bot
from shared.errors import RequestRejectedError
from shared.http_values import RawRequest
from shared.messages import Event
from shared.platforms import PLATFORMS, load
from shared.platforms.base import Caller, Inbound
from workers.ops.doctor.finding import Finding, failed, ok, skipped
from workers.ops.doctor.subject import Subject

WORDS = "clawdbot doctor 你好"


def look(subject: Subject) -> Iterator[Finding]:
    """One finding for each bot."""
    bots = subject.settings.all_bots()
    if not bots:
        yield skipped("no bot is configured")
    for bot in bots:
        yield _about(bot, subject.clock())


def caller_of(bot: Bot) -> Caller:
    """Who calls as the bot's platform does."""
    caller: Caller = load(PLATFORMS[bot.platform].caller)(bot.settings)
    return caller


def title(bot: Bot) -> str:
    """A bot as its webhook's path names it."""
    return f"{bot.platform}/{bot.name}"


def _about(bot: Bot, now: float) -> Finding:
    caller = caller_of(bot)
    wrong = [what for what, is_right in caller.known_answers().items() if not is_right]
    if wrong:
        return _broken(bot, f"{' and '.join(wrong)}: other than the published example")
    inbound: Inbound = load(PLATFORMS[bot.platform].inbound)(bot.settings)
    if fault := _round_trip(caller, inbound, now):
        return _broken(bot, fault)
    if _lets_in(inbound, now):
        return _broken(bot, "a call without a proof was let in")
    scheme = bot.settings.signature_scheme
    return ok(f"{title(bot)}: a call proved the {scheme}'s way gets in, an unproved one doesn't")


def _round_trip(caller: Caller, inbound: Inbound, now: float) -> str:
    """What is wrong with a call of our own; "" when it gets in."""
    request = caller.message(
        WORDS,
        message_id="doctor",
        conversation_id="doctor",
        now=now,
        nonce=secrets.token_bytes(16),
    )
    try:
        received = inbound.receive(request, now=now)
    except RequestRejectedError as error:
        return f"a call signed with its own secrets was refused ({error.reason})"
    is_whole = isinstance(received, Event) and received.text == WORDS
    return "" if is_whole else "a message came out other than it went in"


def _lets_in(inbound: Inbound, now: float) -> bool:
    try:
        inbound.receive(RawRequest({}, b"{}"), now=now)
    except RequestRejectedError:
        return False
    return True


def _broken(bot: Bot, fault: str) -> Finding:
    return failed(
        f"{title(bot)}: {fault}",
        "Calls of the platform would be refused, or calls of strangers let in.",
        "stop the ingress, install this release anew (make install), and report it",
    )
