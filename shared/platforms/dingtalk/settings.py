"""Settings of a DingTalk bot: an internal app (企业内部应用) with the robot ability."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from shared.platforms.settings import (
    AppId,
    BaseUrl,
    BotSettings,
    Names,
    Secrets,
    is_host,
    is_loopback,
    reveal,
)

OFFICIAL_WEBHOOK_HOSTS = ("oapi.dingtalk.com", "api.dingtalk.com")


class DingTalkSettings(BotSettings):
    """The names are those of the app's page in the developer console."""

    platform: Literal["dingtalk"] = "dingtalk"
    app_key: AppId = Field(description="The app's key (Client ID).")
    app_secret: Secrets = Field(
        default=(),
        description="Signs what comes in, fetches access tokens. A JSON list during rotation.",
    )
    robot_code: str = Field(
        default="", description="Which robot a message must be for; an app robot's is its app_key."
    )
    corp_ids: Names = Field(
        default=(), description="Companies whose messages are let in, by chatbotCorpId; none: any."
    )
    api_base: BaseUrl = Field(default="https://api.dingtalk.com", description="The platform's API.")
    oapi_base: BaseUrl = Field(
        default="https://oapi.dingtalk.com",
        description="The old API; its host is one that session webhooks may have.",
    )
    webhook_hosts: Names = Field(
        default=(),
        description="The only hosts (host or host:port) that session webhooks may have; "
        "unset: the two official ones and those of api_base and oapi_base.",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_robot_code(cls, values: Any) -> Any:
        if not isinstance(values, dict) or str(values.get("robot_code") or "").strip():
            return values
        app_key = values.get("app_key")
        return {**values, "robot_code": app_key.strip() if isinstance(app_key, str) else ""}

    @field_validator("webhook_hosts")
    @classmethod
    def _only_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [host for host in hosts if not is_host(host)]
        if wrong:
            raise ValueError(
                "each entry must be a lower-case host or host:port, without https:// and path; "
                f"{len(wrong)} of {len(hosts)} are not"
            )
        return hosts

    @model_validator(mode="after")
    def _can_verify_and_send(self) -> DingTalkSettings:
        if not self.app_secret:
            raise ValueError(
                "app_secret is missing, so no webhook call could be verified and no reply sent; "
                "copy AppSecret (Client Secret) from the app's page Credentials (凭证与基础信息)"
            )
        return self

    @property
    def bot_id(self) -> str:
        return self.app_key

    @property
    def sealing_secrets(self) -> tuple[str, ...]:
        return reveal(self.app_secret)

    @property
    def webhook_origins(self) -> frozenset[str]:
        """The only beginnings, up to the path, that a session webhook may have."""
        bases = tuple(urlsplit(url).netloc for url in (self.api_base, self.oapi_base))
        hosts = self.webhook_hosts or OFFICIAL_WEBHOOK_HOSTS + bases
        plain = (f"http://{host}" for host in hosts if is_loopback(host))
        return frozenset((*(f"https://{host}" for host in hosts), *plain))
