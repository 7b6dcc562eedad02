"""`clawdbot addresses`: where a platform's webhook calls come from, as it publishes itself."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, collapse_addresses

import click

from shared.config.known import env_name
from shared.config.settings import DEFAULT_BOT, Bot
from shared.errors import TransientError
from shared.messages import AddressPage
from shared.networks import Network, read_network
from shared.platforms import PLATFORMS, load
from shared.platforms.base import Outbound
from workers.app_secrets import fetch_token
from workers.client import HttpClient
from workers.deadline import Deadline
from workers.ops.config_desk import look_around, tell_faults
from workers.ops.context import show_json

TIMEOUT_S = 30.0  #: for all calls together
MAX_PAGES = 100


@click.command()
@click.argument("platform", type=click.Choice(list(PLATFORMS)))
@click.option("--bot", "bot_name", default="", help="Ask as this bot: its name, or its app id.")
@click.option("--json", "as_json", is_flag=True, help="For other programs.")
def addresses(platform: str, bot_name: str, as_json: bool) -> None:
    """Ask a platform where its webhook calls come from; print it as the allow-list to set.

    Platforms change their addresses now and then: ask again before they do, and from time to time.
    Needs the bot's credentials, and neither Redis nor a running gateway.

    Example: clawdbot addresses feishu
    """
    bot = _chosen(platform, bot_name)
    http = HttpClient(concurrency=1)
    try:
        cidrs = [str(network) for network in _fetch(bot, http, Deadline(TIMEOUT_S))]
    finally:
        http.close()
    if as_json:
        show_json({"platform": platform, "bot": bot.app_id, "cidrs": cidrs})
    else:
        click.echo(f"{env_name(('security', 'allow_cidrs', platform))}={','.join(cidrs)}")


def _chosen(platform: str, name: str) -> Bot:
    follower = look_around()
    tell_faults(follower)
    settings = follower.loaded.settings
    bots = [bot for bot in settings.all_bots() if bot.platform == platform]
    for bot in bots:
        if name in (bot.name, bot.app_id) or (not name and bot.name == DEFAULT_BOT):
            return bot
    if not bots:
        raise click.ClickException(f"no bot of {platform} is configured to ask with")
    if not name:
        return bots[0]
    known = ", ".join(bot.name for bot in bots)
    raise click.UsageError(f"{platform} has no bot {name}; there is {known}")


def _fetch(bot: Bot, http: HttpClient, deadline: Deadline) -> list[Network]:
    """The networks, neighbours joined.

    Raises:
        click.ClickException: the platform publishes none.
        TaskError: it can't be asked now, or not by this bot.
    """
    outbound: Outbound = load(PLATFORMS[bot.platform].outbound)(bot.settings)
    if outbound.addresses_request("", "") is None:
        raise click.ClickException(
            f"{bot.platform} publishes no addresses that it calls from: there is nothing to fetch"
        )
    token = fetch_token(outbound, lambda request: http.send(request, deadline)).token.value
    found = [
        network
        for page in _pages(outbound, token, http, deadline)
        for network in _networks(bot.platform, page)
    ]
    v4 = collapse_addresses([each for each in found if isinstance(each, IPv4Network)])
    v6 = collapse_addresses([each for each in found if isinstance(each, IPv6Network)])
    return [*v4, *v6]


def _pages(
    outbound: Outbound, token: str, http: HttpClient, deadline: Deadline
) -> Iterator[AddressPage]:
    page = ""
    for _ in range(MAX_PAGES):
        request = outbound.addresses_request(token, page)
        assert request is not None
        answer = outbound.read_addresses(http.send(request, deadline))
        yield answer
        page = answer.next_page
        if not page:
            return
    raise TransientError("addresses:endless", f"there is still more after {MAX_PAGES} pages")


def _networks(platform: str, page: AddressPage) -> Iterator[Network]:
    """An allow-list that lacks one of them would refuse messages: all are read, or it fails."""
    for text in page.addresses:
        try:
            yield read_network(text)
        except ValueError as error:
            raise TransientError(
                "addresses:unreadable", f"{platform} told of {text[:64]!r}, which {error}"
            ) from error
