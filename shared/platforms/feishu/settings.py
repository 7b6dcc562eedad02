"""Settings of a Feishu (Lark) bot: a self-built app with the bot ability."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import AliasChoices, Field, model_validator

from shared.platforms.settings import AppId, BaseUrl, BotSettings, Names, Secrets, reveal

MESSAGE_TYPE = "im.message.receive_v1"
#: How the deployment guide spells it. The platform doesn't, but a test tool may.
GUIDE_MESSAGE_TYPE = "im.message.received_v1"

_NO_ENCRYPT_KEY = (
    "bot {bot}: no encrypt_key is set, so webhook calls are neither signed nor encrypted and the "
    "verification token alone proves the sender. Set an Encrypt Key in the developer console and "
    "here."
)


class FeishuSettings(BotSettings):
    """The names are those of the developer console's pages "Credentials" and "Events"."""

    platform: Literal["feishu"] = "feishu"
    app_id: AppId = Field(description="The app's id, cli_….")
    app_secret: Secrets = Field(
        default=(), description="Fetches access tokens. Several as a JSON list during rotation."
    )
    verification_token: Secrets = Field(
        default=(),
        validation_alias=AliasChoices("verification_token", "verify_token"),
        description="Stands inside every body; the only check when there is no encrypt_key.",
    )
    encrypt_key: Secrets = Field(
        default=(), description="Signs and encrypts what comes in. Set, it is required of all."
    )
    event_types: Names = Field(
        default=(),
        description="What the app is subscribed to, checked at start: messages alone are answered.",
    )
    api_base: BaseUrl = Field(
        default="https://open.feishu.cn",
        description="The platform's API; https://open.larksuite.com for a Lark app.",
    )

    @model_validator(mode="after")
    def _can_verify_and_send(self) -> FeishuSettings:
        if not self.encrypt_key and not self.verification_token:
            raise ValueError(
                "encrypt_key and verification_token are both missing, so no webhook call could be "
                "verified; set encrypt_key (better) or verification_token from the app's page "
                "Events & Callbacks > Encryption Strategy"
            )
        if not self.app_secret:
            raise ValueError(
                "app_secret is missing, so no reply could be sent; copy it from the app's page "
                "Credentials & Basic Info"
            )
        return self

    @property
    def bot_id(self) -> str:
        return self.app_id

    @property
    def sealing_secrets(self) -> tuple[str, ...]:
        return reveal(self.app_secret)

    def warnings(self) -> list[str]:
        found = [*super().warnings(), *self._event_warnings()]
        if not self.encrypt_key:
            found.append(_NO_ENCRYPT_KEY.format(bot=self.bot_id))
        return found

    def _event_warnings(self) -> Iterator[str]:
        """The developer console decides what is sent; the list here is what somebody expects."""
        if not self.event_types:
            return
        messages = (MESSAGE_TYPE, GUIDE_MESSAGE_TYPE)
        if others := [name for name in self.event_types if name not in messages]:
            yield (
                f"bot {self.bot_id}: event_types names {', '.join(others)}, which is acknowledged "
                f"and not answered; only {MESSAGE_TYPE} is"
            )
        if GUIDE_MESSAGE_TYPE in self.event_types:
            yield (
                f"bot {self.bot_id}: event_types names {GUIDE_MESSAGE_TYPE}; the platform calls it "
                f"{MESSAGE_TYPE}: subscribe to that one in the developer console"
            )
        elif MESSAGE_TYPE not in self.event_types:
            yield (
                f"bot {self.bot_id}: event_types lacks {MESSAGE_TYPE}; without it no message comes"
            )
