"""The bots as the workers need them: how to read their events and how to answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import redis

from shared.config import Settings
from shared.config.live import Live
from shared.errors import PermanentError, UnknownHereError
from shared.messages import Event, Token
from shared.platforms import PLATFORMS, load
from shared.platforms.base import Outbound
from shared.platforms.settings import BotSettings
from shared.rehearsal import is_rehearsal, rehearsal_vault
from shared.state.keys import BotKeys
from shared.vault import Vault
from workers.claim import Claim
from workers.tokens import CachedToken, TokenCache


@dataclass(frozen=True, slots=True)
class WorkerBot:
    """One bot: its keys, its settings as they are now, its outbound room, its seals, its token.

    name: as in URLs and metrics.
    """

    name: str
    keys: BotKeys
    settings: BotSettings
    outbound: Outbound
    vault: Vault
    rehearsals: Vault
    tokens: TokenCache

    def event(self, record: Mapping[str, str]) -> Event:
        """The event of a record, its secret address readable again.

        Raises:
            UnknownHereError: it has no key for it; while secrets are changed, another process has.
        """
        try:
            return Event.from_wire(record["event"], self.vault.open)
        except PermanentError as error:
            raise UnknownHereError(error.code, error.detail) from error

    def rehearses(self, event: Event) -> bool:
        """Whether `event` is our own and reaches nobody. Raises: see `is_rehearsal`."""
        return is_rehearsal(event, self.rehearsals)

    def token(self, fetch: Callable[[], Token], remaining_s: Callable[[], float]) -> CachedToken:
        """See `TokenCache.get`."""
        return self.tokens.get(fetch, remaining_s)


class Bots:
    """All configured bots, found by the lane they own."""

    def __init__(self, live: Live, client: redis.Redis) -> None:
        built = {bot.keys.prefix: bot for bot in _build(live.settings, client)}
        self._by_prefix = live.derive(lambda settings: _renewed(built, settings))

    def of(self, claim: Claim) -> WorkerBot:
        """The bot whose lane was claimed.

        Raises:
            UnknownHereError: this process doesn't know it; while a bot is added, another one does.
        """
        prefix = claim.keys.bot.prefix
        bot = self._by_prefix.value.get(prefix)
        if bot is None:
            raise UnknownHereError("bot:unknown", f"no bot {prefix} is configured: add it, replay")
        return bot


def _build(settings: Settings, client: redis.Redis) -> list[WorkerBot]:
    master = [secret.get_secret_value() for secret in settings.master_key]
    bots = []
    for bot in settings.all_bots():
        keys = BotKeys(bot.platform, bot.app_id)
        secrets = bot.settings.sealing_secrets
        vault = Vault.for_bot(master, secrets, keys.prefix)
        rehearsals = rehearsal_vault(master, secrets, keys.prefix)
        outbound = load(PLATFORMS[bot.platform].outbound)(bot.settings)
        tokens = TokenCache(client, keys.token, vault)
        bots.append(WorkerBot(bot.name, keys, bot.settings, outbound, vault, rehearsals, tokens))
    return bots


def _renewed(built: Mapping[str, WorkerBot], settings: Settings) -> dict[str, WorkerBot]:
    """The same bots with their settings of now."""
    named = {BotKeys(bot.platform, bot.app_id).prefix: bot for bot in settings.all_bots()}
    return {prefix: replace(bot, settings=named[prefix].settings) for prefix, bot in built.items()}
