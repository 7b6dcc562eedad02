"""Whether CLAWDBOT_PUBLIC_URL leads to the ingress. Seen from here: from outside it may differ."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from shared.config import Bot
from shared.config.settings import DEFAULT_BOT
from shared.errors import TaskError
from shared.http_values import HttpRequest, HttpResponse
from workers.ops.doctor.check import together
from workers.ops.doctor.finding import Finding, failed, ok, skipped, warning
from workers.ops.doctor.subject import Subject, reason

REFUSED = (401, 403)  #: not proved; not from an address that is let in


def look(subject: Subject) -> Iterator[Finding]:
    """One finding for each bot's webhook: a proxy passes nothing else on, and needn't."""
    url = subject.settings.public_url
    if url is None:
        yield skipped(
            "CLAWDBOT_PUBLIC_URL is not set", "set it to have the way from outside looked at"
        )
        return
    if url.startswith("http:"):
        yield _plain(url)
    bots = subject.settings.all_bots()
    if not bots:
        yield skipped("no bot is configured")
    yield from together([partial(_webhook, subject, url, bot) for bot in bots])


def webhook_path(bot: Bot) -> str:
    """Where the platform calls for this bot."""
    name = "" if bot.name == DEFAULT_BOT else f"/{bot.name}"
    return f"/{bot.platform}/webhook{name}"


def _webhook(subject: Subject, url: str, bot: Bot) -> Iterator[Finding]:
    target = f"{url}{webhook_path(bot)}"
    try:
        response = subject.call(HttpRequest("POST", target, {}, b"{}"))
    except TaskError as error:
        yield _no_way(target, reason(error))
        return
    if _is_refusal(response):
        yield ok(f"{target} refuses an unsigned call (HTTP {response.status})")
        return
    yield failed(
        f"{target} answers an unsigned call with HTTP {response.status}, and not as the ingress",
        "What answers there is not the ingress, or it verifies no calls.",
        "let the proxy pass this path, method and body on unchanged to the ingress",
        f"curl -si -X POST -d '{{}}' {target}",
    )


def _is_refusal(response: HttpResponse) -> bool:
    """Whether the ingress said it: a proxy refuses with a page of its own."""
    return response.status in REFUSED and response.json_object().keys() == {"error"}


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
