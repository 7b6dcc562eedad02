"""A message of our own through the running gateway, for every bot; it reaches nobody.

It is signed with the bot's secrets and posted to the ingress; then its record in Redis tells how
far it has come. See `shared/rehearsal.py`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any

from shared.config import Bot
from shared.errors import TaskError
from shared.http_values import JSON_UTF8, HttpRequest, HttpResponse
from shared.messages import digest
from shared.platforms.settings import reveal
from shared.rehearsal import PREFIX, proof, rehearsal_vault
from shared.state.keys import BotKeys
from workers.ops.context import Operator
from workers.ops.doctor.check import together
from workers.ops.doctor.checks.public_url import webhook_path
from workers.ops.doctor.checks.signatures import caller_of, title
from workers.ops.doctor.finding import Finding, failed, ok, skipped, warning
from workers.ops.doctor.subject import Subject, reason
from workers.ops.overview import survey
from workers.ops.way import follow

FOLLOWED_S = 15.0
POLL_S = 0.05
REFUSED_ADDRESS = 403
#: What workers of other settings than the ingress's fail with, until its time is over.
TRIED_AGAIN = frozenset({"bot:unknown", "vault:unreadable"})

Way = dict[str, Any]  #: see `workers.ops.way.follow`


def look(subject: Subject) -> Iterator[Finding]:
    """One finding for each bot."""
    bots = subject.settings.all_bots()
    if not bots:
        yield skipped("no bot is configured")
        return
    with subject.redis() as client:
        client.ping()  # without it nobody could tell how far a message came
    yield from together([partial(_rehearse, subject, bot) for bot in bots])


def _rehearse(subject: Subject, bot: Bot) -> Iterator[Finding]:
    name = PREFIX + secrets.token_hex(8)
    started = time.monotonic()
    try:
        response = subject.call(_request(subject, bot, name))
    except TaskError as error:
        yield skipped(f"{title(bot)}: no answer of the ingress: {reason(error)}", "see ingress")
        return
    took_ms = (time.monotonic() - started) * 1000
    keys = BotKeys(bot.platform, bot.app_id)
    trace_id = digest(bot.platform, bot.app_id, name)
    if response.status != 200 or response.headers.get("x-trace-id") != trace_id:
        yield _not_let_in(bot, response)
        return
    if response.json_object():  # an acknowledgement says nothing
        yield _takes_nothing(f"{title(bot)}: the ingress answered HTTP 200 (a busy reply)")
        return
    with subject.redis() as client:
        if not client.exists(keys.event(trace_id)):
            yield _elsewhere(bot)
            return
        op = Operator(subject.settings, client, [keys])
        way = _followed(op, keys, trace_id)
        yield _outcome(op, bot, way, took_ms)
        if way["fate"] == "dead":
            op.lanes.drop(keys, [trace_id])  # its letter is nobody's to replay


def _request(subject: Subject, bot: Bot, name: str) -> HttpRequest:
    vault = rehearsal_vault(
        reveal(subject.settings.master_key),
        bot.settings.sealing_secrets,
        BotKeys(bot.platform, bot.app_id).prefix,
    )
    call = caller_of(bot).message(
        proof(vault, name),
        message_id=name,
        conversation_id=name,
        now=subject.clock(),
        nonce=secrets.token_bytes(16),
    )
    headers = {"Content-Type": JSON_UTF8, **call.headers}
    return HttpRequest("POST", f"{subject.ingress_url}{webhook_path(bot)}", headers, call.body)


def _followed(op: Operator, keys: BotKeys, trace_id: str) -> Way:
    """Its way until it has ended, or nobody waits any longer."""
    until = time.monotonic() + FOLLOWED_S
    while True:
        way = follow(op, keys, trace_id)
        if way["fate"] in ("answered", "dead") or time.monotonic() > until:
            return way
        time.sleep(POLL_S)


def _outcome(op: Operator, bot: Bot, way: Way, took_ms: float) -> Finding:
    if way["fate"] == "answered":
        return ok(f"{title(bot)}: HTTP 200 after {took_ms:.0f} ms{_times(way)}")
    last = way["steps"][-1]
    if way["fate"] == "dead":
        return _unread(bot, f"then died: {last['what']}")
    if last.get("code") in TRIED_AGAIN:
        return _unread(bot, f"waits for a worker that can read it: {last['what']}")
    return _waiting(op, bot, way)


def _times(way: Way) -> str:
    """How long every step took after the one before it."""
    steps = way["steps"]
    return "".join(
        f", {step['what'].partition(' (')[0]} after {step['ms'] - before['ms']} ms"
        for before, step in pairwise(steps)
    )


def _not_let_in(bot: Bot, response: HttpResponse) -> Finding:
    why = str(response.json_object().get("error", "no reason given"))
    seen = f"{title(bot)}: the ingress answered HTTP {response.status} ({why})"
    if response.status == REFUSED_ADDRESS:
        return warning(
            seen,
            "This machine's address is not among those that are let in: that is as it should be.",
            f"to have it looked at, add this address to security.allow_cidrs.{bot.platform}",
        )
    if response.status == 401:
        return failed(
            seen,
            "It refused a call signed with these very secrets: it runs with others, or its clock "
            "is wrong.",
            "give the ingress these settings and restart it; see the check clock",
        )
    if response.status in (429, 503):
        return _takes_nothing(seen)
    return failed(
        seen,
        "It does not know this bot, or is another program.",
        "give the ingress these settings and restart it; see the check ingress",
    )


def _takes_nothing(seen: str) -> Finding:
    return failed(
        seen,
        "It takes no messages in at the moment; Feishu sends them again, DingTalk doesn't.",
        "see the checks ingress, redis and memory",
        "clawdbot queue",
    )


def _elsewhere(bot: Bot) -> Finding:
    return failed(
        f"{title(bot)}: the ingress took it in, and it is not in the Redis of these settings",
        "The ingress records in another Redis than the one that is looked at here.",
        "give ingress, workers and this machine the same CLAWDBOT_REDIS__URL",
    )


def _unread(bot: Bot, what: str) -> Finding:
    return failed(
        f"{title(bot)}: it was taken in and {what}",
        "The workers could not read what the ingress recorded: people's messages die, too.",
        "give ingress and workers the same settings (bots, secrets, CLAWDBOT_MASTER_KEY), restart",
        "clawdbot dead list",
    )


def _waiting(op: Operator, bot: Bot, way: Way) -> Finding:
    facts = survey(op)
    hints = ", ".join(f"{queue} {count}" for queue, count in facts["hints"].items())
    return failed(
        f"{title(bot)}: taken in, and after {FOLLOWED_S:g} s still {way['fate']} "
        f"(hints waiting: {hints}; oldest message: {facts['oldest_s']} s)",
        "People wait as long. It is lost to nobody, and ends as a rehearsal when its turn comes.",
        "see the check workers; if they live, start more of that stage",
        f"clawdbot trace {way['trace_id']}",
        "clawdbot queue",
    )
