"""The bots as the workers need them: how to read their events and how to answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import redis

from shared.config import Settings
from shared.errors import PermanentError
from shared.messages import Event, Token
from shared.platforms import PLATFORMS, load
from shared.platforms.base import Outbound
from shared.platforms.settings import BotSettings
from shared.state.keys import BotKeys
from shared.vault import Vault
from workers.claim import Claim
from workers.tokens import CachedToken, TokenCache


@dataclass(frozen=True, slots=True)
class WorkerBot:
    """One bot: its keys, its outbound room, its seal and its access token.

    name: as in URLs and metrics.
    """

    name: str
    keys: BotKeys
    settings: BotSettings
    outbound: Outbound
    vault: Vault
    tokens: TokenCache

    def event(self, record: Mapping[str, str]) -> Event:
        """The event of a record, its secret address readable again."""
        return Event.from_wire(record["event"], self.vault.open)

    def token(self, fetch: Callable[[], Token], remaining_s: Callable[[], float]) -> CachedToken:
        """See `TokenCache.get`."""
        return self.tokens.get(fetch, remaining_s)


class Bots:
    """All configured bots, found by the lane they own."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self._by_prefix = {bot.keys.prefix: bot for bot in _build(settings, client)}

    def of(self, claim: Claim) -> WorkerBot:
        """The bot whose lane was claimed.

        Raises:
            PermanentError: it is not configured (any more).
        """
        prefix = claim.keys.bot.prefix
        if prefix not in self._by_prefix:
            raise PermanentError("bot:unknown", f"no bot {prefix} is configured: add it, replay")
        return self._by_prefix[prefix]


def _build(settings: Settings, client: redis.Redis) -> list[WorkerBot]:
    master = [secret.get_secret_value() for secret in settings.master_key]
    bots = []
    for bot in settings.all_bots():
        keys = BotKeys(bot.platform, bot.app_id)
        vault = Vault.for_bot(master, bot.settings.sealing_secrets, keys.prefix)
        outbound = load(PLATFORMS[bot.platform].outbound)(bot.settings)
        tokens = TokenCache(client, keys.token, vault)
        bots.append(WorkerBot(bot.name, keys, bot.settings, outbound, vault, tokens))
    return bots
