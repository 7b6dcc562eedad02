"""All settings as one value; `groups.py` has the groups, `known.py` lists the names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import SerializeAsAny, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from shared.config.fields import Emptiable, setting
from shared.config.groups import (
    AsyncProcessing,
    ConfigCenter,
    Conversation,
    DeadLetters,
    Keys,
    Log,
    Metrics,
    ModelCalls,
    PublicUrl,
    Quotas,
    Redis,
    Retry,
    Security,
    Service,
    Timezone,
)
from shared.config.models import DEFAULT_MODEL, Model, NamedModel
from shared.platforms import PLATFORMS
from shared.platforms.settings import BotSettings, Secrets, is_loopback

DEFAULT_BOT = "default"  #: the name of a platform's bot that needs none in its webhook's path
WEAK_KEY_CHARS = 16
#: What a system prompt may name in braces.
PROMPT_VARIABLES = ("sender_name", "group_name", "date")

_VARIABLE = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True, slots=True)
class Bot:
    """A bot as webhooks and keys know it: `/{platform}/webhook/{name}`, (platform, app_id)."""

    name: str
    platform: str
    app_id: str
    settings: BotSettings


class Settings(Emptiable, BaseSettings):
    """All settings, immutable. Reads nothing by itself: `load_settings` gathers the values.

    models: the named ones; `all_models` has the default one, too.
    default_bots: by platform; also reachable as `settings.<platform>`, None where there is none.
    bots: by name.
    """

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False
    )

    host: str = setting("0.0.0.0", "Address the ingress listens on.", min_length=1)
    port: int = setting(18_789, "Port the ingress listens on.", ge=1, le=65_535)
    public_url: PublicUrl | None = setting(
        None, "Where the platforms reach the ingress; `clawdbot doctor` looks whether they do."
    )
    service: Service = Service()
    model: Model = Model()
    model_calls: ModelCalls = ModelCalls()
    keys: Keys = Keys()
    redis: Redis = Redis()
    task_timeout_s: float = setting(
        5.0, "Longest wait of a task without progress.", unit="s", ge=1, le=300
    )
    answer_timeout_s: float = setting(
        60.0, "Longest a streamed answer may take.", unit="s", ge=1, le=3600, validate_default=True
    )
    async_processing: AsyncProcessing = AsyncProcessing()
    security: Security = Security()
    conversation: Conversation = Conversation()
    quotas: Quotas = Quotas()
    timezone: Timezone = setting("Asia/Shanghai", "Where a day begins, for quotas and {date}.")
    retry: Retry = Retry()
    dead_letters: DeadLetters = DeadLetters()
    log: Log = Log()
    config_center: ConfigCenter = ConfigCenter()
    metrics: Metrics = Metrics()
    master_key: Secrets = setting(
        (), "Seals secrets in Redis; a JSON list while rotating; unset: the bot's app secret does."
    )
    master_key_file: Path | None = setting(None, "A file that holds it; instead of it.")
    models: Mapping[str, NamedModel] = {}
    default_bots: Mapping[str, SerializeAsAny[BotSettings]] = {}
    bots: Mapping[str, SerializeAsAny[BotSettings]] = {}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Values come from the caller alone, so that each is traceable to where it was written."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)

    @field_validator("answer_timeout_s")
    @classmethod
    def _above_task(cls, value: float, info: Any) -> float:
        if value < info.data.get("task_timeout_s", value):
            raise ValueError("must be at least CLAWDBOT_TASK_TIMEOUT_S")
        return value

    if not TYPE_CHECKING:  # a typed version would accept any misspelt attribute

        def __getattr__(self, name: str) -> Any:
            if name in PLATFORMS:
                return self.default_bots.get(name)
            return super().__getattr__(name)

    def all_models(self) -> dict[str, NamedModel]:
        """Every model that can be asked, by name; `default` is there if it has an endpoint."""
        auth = self.service.auth
        if auth.endpoint is None:
            return dict(self.models)
        own = self.model.model_dump(exclude={"system_prompt", "chain"})
        return {DEFAULT_MODEL: NamedModel(**own, **dict(auth)), **self.models}

    def chain_of(self, bot: BotSettings) -> tuple[str, ...]:
        """The names of the models that answer for `bot`, the preferred one first."""
        return bot.model_chain or self.model.chain or (DEFAULT_MODEL,)

    def all_bots(self) -> tuple[Bot, ...]:
        """Every bot: the platforms' default ones first, then the named ones by name."""
        named = sorted(self.bots.items())
        defaults = [(DEFAULT_BOT, self.default_bots[p]) for p in sorted(self.default_bots)]
        return tuple(Bot(name, s.platform, s.bot_id, s) for name, s in (*defaults, *named))

    def warnings(self) -> list[str]:
        """What works but should not stay so: sentences for the log at start."""
        found = [line for bot in self.all_bots() for line in bot.settings.warnings()]
        if not self.all_bots():
            found.append("no bot is configured; set for instance CLAWDBOT_DINGTALK__APP_KEY")
        found += _endpoint_warnings(self.service.auth.endpoint)
        found += self._prompt_warnings()
        if any(len(key.get_secret_value()) < WEAK_KEY_CHARS for key in self.master_key):
            found.append(
                f"CLAWDBOT_MASTER_KEY has a key of less than {WEAK_KEY_CHARS} characters; "
                "use for instance `openssl rand -base64 32`"
            )
        if self.redis.sentinels and not self.redis.wait_replicas:
            found.append(
                "CLAWDBOT_REDIS__WAIT_REPLICAS is 0: a failover may lose acknowledged messages"
            )
        if any(network.endswith("/0") for network in self.security.trusted_proxies):
            found.append(
                "CLAWDBOT_SECURITY__TRUSTED_PROXIES has all addresses, so anybody can say that he "
                "calls for another; list your proxies alone"
            )
        if self.log.content:
            found.append("LOG_CONTENT is on: what people write is in the logs")
        return found

    def _prompt_warnings(self) -> list[str]:
        prompts = {"model.system_prompt": self.model.system_prompt}
        for bot in self.all_bots():
            prompts[f"the system_prompt of bot {bot.app_id}"] = bot.settings.system_prompt
        return [
            f"{where} names {{{name}}}, which is none of {', '.join(PROMPT_VARIABLES)}; "
            "it is sent as it stands"
            for where, prompt in prompts.items()
            for name in _unknown_variables(prompt)
        ]


def _unknown_variables(prompt: str) -> list[str]:
    return [name for name in _VARIABLE.findall(prompt) if name not in PROMPT_VARIABLES]


def _endpoint_warnings(endpoint: str | None) -> list[str]:
    if endpoint is None:
        return ["CLAWDBOT_ENDPOINT is not set: there is no model to answer"]
    parts = urlsplit(endpoint)
    if parts.scheme == "https" or is_loopback(parts.netloc):
        return []
    return [
        "CLAWDBOT_ENDPOINT is plain http to another host: the key and what people write can be "
        "read on the way; use https unless the network is yours alone"
    ]
