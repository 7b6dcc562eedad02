"""Settings of a Feishu (Lark) bot: a self-built app with the bot ability."""

from __future__ import annotations

from typing import Literal

from pydantic import AliasChoices, Field, model_validator

from shared.platforms.settings import AppId, BaseUrl, BotSettings, Secrets, reveal


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
        if self.encrypt_key:
            return super().warnings()
        return [
            *super().warnings(),
            f"bot {self.bot_id}: no encrypt_key is set, so webhook calls are neither signed nor "
            "encrypted and the verification token alone proves the sender. Set an Encrypt Key in "
            "the developer console and here.",
        ]
