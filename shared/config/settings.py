"""Every setting with its type, default, unit and one line of help; `known.py` lists them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    SerializeAsAny,
    field_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from shared.config import redis_url
from shared.platforms import PLATFORMS
from shared.platforms.settings import BotSettings, Secrets, is_loopback

DEFAULT_BOT = "default"  #: the name of a platform's bot that needs none in its webhook's path
WEAK_KEY_CHARS = 16


def _setting(default: Any, help_text: str, *, unit: str = "", **bounds: Any) -> Any:
    return Field(default, description=help_text, json_schema_extra={"unit": unit}, **bounds)


def _endpoint(value: str) -> str:
    url = value.strip().rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected an address like https://api.example.com/v1")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not carry a user or password; the key belongs in CLAWDBOT_AK_SECRET")
    if parts.query or parts.fragment:
        raise ValueError("must not carry a query or fragment: the model's path is put behind it")
    return url


def _upper(value: Any) -> Any:
    return value.strip().upper() if isinstance(value, str) else value


class Group(BaseModel):
    """Settings that belong together. A refused value is never printed: it may be a secret."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False
    )


class Auth(Group):
    ak_id: str = _setting("", "Access key id; informative with model.auth=bearer.")
    ak_secret: Secrets = _setting((), "The model's key, or a JSON list of keys in rotation.")
    endpoint: Annotated[str, AfterValidator(_endpoint)] | None = _setting(
        None, "The OpenAI-compatible address of the model, up to and including /v1."
    )


class Service(Group):
    auth: Auth = Auth()


class Model(Group):
    name: str = _setting("default", "The model to ask for.", min_length=1)
    stream: bool = _setting(True, "Stream the answer; without it the whole call has 5 s.")
    system_prompt: str = _setting("", "What the model is told before every conversation.")
    auth: Literal["bearer"] = _setting("bearer", "How calls are authenticated: bearer.")
    temperature: float | None = _setting(
        None, "Sampling temperature; unset: the model's own.", ge=0, le=2
    )
    max_tokens: int | None = _setting(
        None, "Longest answer; unset: the model's own.", unit="tokens", ge=1, le=1_000_000
    )

    @field_validator("auth", mode="before")
    @classmethod
    def _is_offered(cls, value: Any) -> Any:
        if value in ("baidu", "volcengine"):
            raise ValueError(f"{value} comes in a later release; only bearer is offered yet")
        return value


class Redis(Group):
    url: SecretStr = _setting(
        SecretStr("redis://127.0.0.1:6379/0"), "redis://, rediss:// or unix:// with its password."
    )
    wait_replicas: int = _setting(
        0, "Replicas that must have an event before it is acknowledged.", ge=0, le=10
    )
    socket_timeout_s: float = _setting(
        2.0, "Longest wait for Redis to connect or answer.", unit="s", ge=0.1, le=30
    )

    @field_validator("url")
    @classmethod
    def _is_usable(cls, value: SecretStr) -> SecretStr:
        return SecretStr(redis_url.check(value.get_secret_value()))

    @property
    def client_url(self) -> str:
        """For `redis.Redis.from_url`; carries the password."""
        return redis_url.client_url(self.url.get_secret_value())

    @property
    def broker_url(self) -> str:
        """For Celery; carries the password."""
        return redis_url.broker_url(self.url.get_secret_value())


class AsyncProcessing(Group):
    enabled: bool = _setting(True, "Always true: messages are acknowledged before the work.")
    thread_pool_size: int = _setting(16, "Default concurrency of a worker.", ge=1, le=1000)
    queue_capacity: int = _setting(
        10_000, "Unfinished events a bot may have.", unit="events", ge=1, le=10_000_000
    )

    @field_validator("enabled")
    @classmethod
    def _stays_on(cls, value: bool) -> bool:
        if not value:
            raise ValueError(
                "can't be switched off: acknowledging before the work is what keeps messages safe, "
                "and the platforms allow about 3 s for it; leave it out"
            )
        return value


class Security(Group):
    qps: int = _setting(500, "Webhook calls let in.", unit="calls/s", ge=1, le=1_000_000)


class Conversation(Group):
    turns: int = _setting(10, "Question-answer pairs the model is reminded of.", ge=0, le=1000)
    max_bytes: int = _setting(
        16_384, "Longest history sent to the model.", unit="bytes", ge=0, le=1_048_576
    )
    ttl_s: int = _setting(
        7 * 86_400, "How long a silent conversation is remembered.", unit="s", ge=60, le=31_536_000
    )


class Retry(Group):
    process_limit_s: float = _setting(
        600, "How long a message may be retried at the model.", unit="s", ge=0, le=86_400
    )
    push_limit_s: float = _setting(
        1800, "How long a reply may be retried at the platform.", unit="s", ge=0, le=86_400
    )
    base_s: float = _setting(0.5, "First backoff; doubles each time.", unit="s", ge=0.01, le=60)
    cap_s: float = _setting(
        60, "Longest backoff.", unit="s", ge=0.01, le=3600, validate_default=True
    )

    @field_validator("cap_s")
    @classmethod
    def _above_base(cls, value: float, info: Any) -> float:
        if value < info.data.get("base_s", value):
            raise ValueError("must be at least CLAWDBOT_RETRY__BASE_S")
        return value


class DeadLetters(Group):
    retention_days: int = _setting(
        30, "Age at which dead letters are dropped; 0: never.", unit="days", ge=0, le=3650
    )


class Log(Group):
    level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_upper)
    ] = _setting("INFO", "DEBUG, INFO, WARNING, ERROR or CRITICAL.")
    content: bool = _setting(False, "Write message text into the logs.")
    dir: Path | None = _setting(None, "Folder for log files besides stdout.")


@dataclass(frozen=True, slots=True)
class Bot:
    """A bot as webhooks and keys know it: `/{platform}/webhook/{name}`, (platform, app_id)."""

    name: str
    platform: str
    app_id: str
    settings: BotSettings


class Settings(BaseSettings):
    """All settings, immutable. Reads nothing by itself: `load_settings` gathers the values.

    default_bots: by platform; also reachable as `settings.<platform>`, None where there is none.
    bots: by name.
    """

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False
    )

    host: str = _setting("0.0.0.0", "Address the ingress listens on.", min_length=1)
    port: int = _setting(18_789, "Port the ingress listens on.", ge=1, le=65_535)
    service: Service = Service()
    model: Model = Model()
    redis: Redis = Redis()
    task_timeout_s: float = _setting(
        5.0, "Longest wait of a task without progress.", unit="s", ge=1, le=300
    )
    answer_timeout_s: float = _setting(
        60.0, "Longest a streamed answer may take.", unit="s", ge=1, le=3600, validate_default=True
    )
    async_processing: AsyncProcessing = AsyncProcessing()
    security: Security = Security()
    conversation: Conversation = Conversation()
    retry: Retry = Retry()
    dead_letters: DeadLetters = DeadLetters()
    log: Log = Log()
    master_key: Secrets = _setting(
        (), "Seals secrets in Redis; a JSON list while rotating; unset: the bot's app secret does."
    )
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
        if any(len(key.get_secret_value()) < WEAK_KEY_CHARS for key in self.master_key):
            found.append(
                f"CLAWDBOT_MASTER_KEY has a key of less than {WEAK_KEY_CHARS} characters; "
                "use for instance `openssl rand -base64 32`"
            )
        if self.log.content:
            found.append("LOG_CONTENT is on: what people write is in the logs")
        return found


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
