"""Whether CLAWDBOT_PUBLIC_URL leads to the ingress. Seen from here: from outside it may differ."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from shared.config import Bot
from shared.config.settings import DEFAULT_BOT
from shared.errors import TaskError
from shared.http_values import HttpRequest
from workers.ops.doctor.check import together
from workers.ops.doctor.finding import Finding, failed, ok, skipped, warning
from workers.ops.doctor.subject import Subject, reason

REFUSED = (401, 403)  #: not proved; not from an address that is let in


def look(subject: Subject) -> Iterator[Finding]:
    """One finding on the way there, then one for each bot's webhook."""
    url = subject.settings.public_url
    if url is None:
        yield skipped(
            "CLAWDBOT_PUBLIC_URL is not set", "set it to have the way from outside looked at"
        )
        return
    if url.startswith("http:"):
        yield _plain(url)
    if fault := _fault(subject, url):
        yield _no_way(url, fault)
        return
    yield ok(f"{url}/health is the ingress's")
    yield from together([partial(_webhook, subject, url, bot) for bot in _bots(subject)])


def webhook_path(bot: Bot) -> str:
    """Where the platform calls for this bot."""
    name = "" if bot.name == DEFAULT_BOT else f"/{bot.name}"
    return f"/{bot.platform}/webhook{name}"


def _bots(subject: Subject) -> tuple[Bot, ...]:
    return subject.settings.all_bots()


def _fault(subject: Subject, url: str) -> str:
    """What is wrong with the way there; "" when nothing is."""
    try:
        response = subject.get(f"{url}/health")
    except TaskError as error:
        return reason(error)
    if response.status == 200 and response.json_object().get("status") == "ok":
        return ""
    return f"/health gives HTTP {response.status}, and not the ingress's answer"


def _webhook(subject: Subject, url: str, bot: Bot) -> Iterator[Finding]:
    target = f"{url}{webhook_path(bot)}"
    try:
        status = subject.call(HttpRequest("POST", target, {}, b"{}")).status
    except TaskError as error:
        yield _no_way(target, reason(error))
        return
    if status in REFUSED:
        yield ok(f"{target} refuses an unsigned call (HTTP {status})")
        return
    yield failed(
        f"{target} answers an unsigned call with HTTP {status}, not 401",
        "What answers there does not verify calls: it is not the ingress, or the path is lost.",
        "let the proxy pass this path, method and body on unchanged to the ingress",
        f"curl -si -X POST -d '{{}}' {target}",
    )


def _plain(url: str) -> Finding:
    return warning(
        f"{url} is not encrypted",
        "Everybody on the way can read what people write, and repeat calls as they like.",
        "put a TLS proxy before the ingress, and give the platforms its https address",
    )


def _no_way(url: str, fault: str) -> Finding:
    return failed(
        f"{url}: {fault}",
        "The platforms can't call the bot, unless the address works from outside alone.",
        "look at DNS, certificate, firewall and the proxy before the ingress; try it from outside",
        f"curl -si {url}",
    )
