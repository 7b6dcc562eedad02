"""The bots as the ingress needs them: which route leads to which inbound room."""

from __future__ import annotations

from dataclasses import dataclass

from shared.config import Settings
from shared.messages import Event
from shared.platforms import PLATFORMS, load
from shared.platforms.base import Inbound
from shared.platforms.settings import BotSettings
from shared.state.keys import BotKeys
from shared.vault import Vault


@dataclass(frozen=True, slots=True)
class IngressBot:
    """One bot: its name in URLs and metrics, its inbound room, its keys, its seal.

    notice_after_ms: how long a person waits for a word before being told that it takes longer; 0:
        for ever.
    """

    name: str
    platform: str
    keys: BotKeys
    settings: BotSettings
    inbound: Inbound
    vault: Vault
    notice_after_ms: int

    def wire(self, event: Event) -> str:
        """The event as it stands in its record."""
        return event.to_wire(self.vault.seal)


def build_bots(settings: Settings) -> dict[tuple[str, str], IngressBot]:
    """Every configured bot by (platform, name); the platform's own is named `default`."""
    master = [secret.get_secret_value() for secret in settings.master_key]
    bots = {}
    for bot in settings.all_bots():
        keys = BotKeys(bot.platform, bot.app_id)
        bots[bot.platform, bot.name] = IngressBot(
            name=bot.name,
            platform=bot.platform,
            keys=keys,
            settings=bot.settings,
            inbound=load(PLATFORMS[bot.platform].inbound)(bot.settings),
            vault=Vault.for_bot(master, bot.settings.sealing_secrets, keys.prefix),
            notice_after_ms=int(bot.settings.notice_after_s * 1000),
        )
    return bots
