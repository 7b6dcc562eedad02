"""The groups of settings, each value with its type, default, unit and one line of help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
)

from shared.config import redis_url
from shared.platforms.settings import Secrets


def setting(default: Any, help_text: str, *, unit: str = "", **bounds: Any) -> Any:
    return Field(default, description=help_text, json_schema_extra={"unit": unit}, **bounds)


def _endpoint(value: str) -> str:
    url = value.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False  # the error would repeat the URL
    if not is_address:
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
    ak_id: str = setting("", "Access key id; informative with model.auth=bearer.")
    ak_secret: Secrets = setting((), "The model's key; of a JSON list the first is used.")
    endpoint: Annotated[str, AfterValidator(_endpoint)] | None = setting(
        None, "The OpenAI-compatible address of the model, up to and including /v1."
    )


class Service(Group):
    auth: Auth = Auth()


class Model(Group):
    name: str = setting("default", "The model to ask for.", min_length=1)
    stream: bool = setting(True, "Stream the answer; without it the whole call has 5 s.")
    system_prompt: str = setting("", "What the model is told before every conversation.")
    auth: Literal["bearer"] = setting("bearer", "How calls are authenticated: bearer.")
    temperature: float | None = setting(
        None, "Sampling temperature; unset: the model's own.", ge=0, le=2
    )
    max_tokens: int | None = setting(
        None, "Longest answer; unset: the model's own.", unit="tokens", ge=1, le=1_000_000
    )

    @field_validator("auth", mode="before")
    @classmethod
    def _is_offered(cls, value: Any) -> Any:
        if value in ("baidu", "volcengine"):
            raise ValueError(f"{value} comes in a later release; only bearer is offered yet")
        return value


class Redis(Group):
    url: SecretStr = setting(
        SecretStr("redis://127.0.0.1:6379/0"),
        "redis://, rediss:// or unix:// with its password; or the sentinels that know it.",
    )
    master_name: str = setting(
        "", "With sentinel://: what the sentinels call the primary.", validate_default=True
    )
    sentinel_password: SecretStr | None = setting(
        None, "With sentinel://: the sentinels' own password, if they have one."
    )
    wait_replicas: int = setting(
        0, "Replicas that must have an event before it is acknowledged.", ge=0, le=10
    )
    socket_timeout_s: float = setting(
        2.0, "Longest wait for Redis to connect or answer.", unit="s", ge=0.1, le=30
    )

    @field_validator("url")
    @classmethod
    def _is_usable(cls, value: SecretStr) -> SecretStr:
        return SecretStr(redis_url.check(value.get_secret_value()))

    @field_validator("master_name", "sentinel_password")
    @classmethod
    def _is_for_sentinels(cls, value: Any, info: Any) -> Any:
        url = info.data.get("url")  # missing when it was refused
        has_sentinels = url is not None and redis_url.is_sentinel(url.get_secret_value())
        if has_sentinels and value == "":
            raise ValueError(
                "is not set, but needed with sentinel://; it is the name in the sentinels' "
                "`sentinel monitor <name> …`"
            )
        if url is not None and not has_sentinels and value:
            raise ValueError("is only for a CLAWDBOT_REDIS__URL that is sentinel://; remove it")
        return value

    @property
    def sentinels(self) -> redis_url.Sentinels | None:
        """Who knows the primary's address; None when `url` is that of a server."""
        url = self.url.get_secret_value()
        return redis_url.Sentinels.parse(url) if redis_url.is_sentinel(url) else None

    @property
    def client_url(self) -> str:
        """For `redis.Redis.from_url`; carries the password. ValueError when there are sentinels."""
        return redis_url.client_url(self.url.get_secret_value())

    @property
    def broker_url(self) -> str:
        """For Celery; carries the password."""
        return redis_url.broker_url(self.url.get_secret_value())


class AsyncProcessing(Group):
    enabled: bool = setting(True, "Always true: messages are acknowledged before the work.")
    thread_pool_size: int = setting(16, "Default concurrency of a worker.", ge=1, le=1000)
    queue_capacity: int = setting(
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
    qps: int = setting(500, "Webhook calls let in.", unit="calls/s", ge=1, le=1_000_000)


class Conversation(Group):
    turns: int = setting(10, "Question-answer pairs the model is reminded of.", ge=0, le=1000)
    max_bytes: int = setting(
        16_384, "Longest history sent to the model.", unit="bytes", ge=0, le=1_048_576
    )
    ttl_s: int = setting(
        7 * 86_400, "How long a silent conversation is remembered.", unit="s", ge=60, le=31_536_000
    )


class Retry(Group):
    process_limit_s: float = setting(
        600, "How long a message may be retried at the model.", unit="s", ge=0, le=86_400
    )
    push_limit_s: float = setting(
        1800, "How long a reply may be retried at the platform.", unit="s", ge=0, le=86_400
    )
    base_s: float = setting(0.5, "First backoff; doubles each time.", unit="s", ge=0.01, le=60)
    cap_s: float = setting(
        60, "Longest backoff.", unit="s", ge=0.01, le=3600, validate_default=True
    )

    @field_validator("cap_s")
    @classmethod
    def _above_base(cls, value: float, info: Any) -> float:
        if value < info.data.get("base_s", value):
            raise ValueError("must be at least CLAWDBOT_RETRY__BASE_S")
        return value


class DeadLetters(Group):
    retention_days: int = setting(
        30, "Age at which dead letters are dropped; 0: never.", unit="days", ge=0, le=3650
    )


class Log(Group):
    level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_upper)
    ] = setting("INFO", "DEBUG, INFO, WARNING, ERROR or CRITICAL.")
    content: bool = setting(False, "Write message text into the logs.")
    dir: Path | None = setting(None, "Folder for log files besides stdout.")
