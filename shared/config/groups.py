"""The groups of settings, each value with its type, default, unit and one line of help.

Those of the models are in `models.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, SecretStr, field_validator

from shared.config import redis_url
from shared.config.callers import AllowCidrs, Cidrs
from shared.config.fields import Group, setting
from shared.config.models import Auth
from shared.platforms.settings import Names, is_host


def _upper(value: Any) -> Any:
    return value.strip().upper() if isinstance(value, str) else value


def _timezone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError("must be a name of the time zone database, as Asia/Shanghai") from error
    return value


def _public_url(value: str) -> str:
    url = value.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and is_host(parts.netloc)
        is_address = is_address and not (parts.query or parts.fragment)
    except ValueError:
        is_address = False  # the error would repeat the URL
    if not is_address:
        raise ValueError(
            "expected an address like https://bot.example.com, without user, query or fragment"
        )
    return url


Timezone = Annotated[str, AfterValidator(_timezone)]
PublicUrl = Annotated[str, AfterValidator(_public_url)]


class Service(Group):
    auth: Auth = Auth()


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
    address_qps: int = setting(
        0,
        "Calls of one address to one ingress process, before anything is checked; 0: twice qps.",
        unit="calls/s",
        ge=0,
        le=1_000_000,
    )
    allow_cidrs: AllowCidrs = AllowCidrs()
    trusted_proxies: Cidrs = setting(
        (), "Addresses and networks whose X-Forwarded-For is believed; none: nobody's."
    )

    @property
    def calls_per_address(self) -> int:
        """What `address_qps` comes to, in calls/s."""
        return self.address_qps or 2 * self.qps


class Conversation(Group):
    turns: int = setting(10, "Question-answer pairs the model is reminded of.", ge=0, le=1000)
    max_bytes: int = setting(
        16_384, "Longest history sent to the model.", unit="bytes", ge=0, le=1_048_576
    )
    max_tokens: int = setting(
        0,
        "Longest history sent to the model, estimated; 0: no limit.",
        unit="tokens",
        ge=0,
        le=10_000_000,
    )
    tokenizer: Path | None = setting(
        None, "The model's tokenizer.json, to count tokens exactly; unset: an estimate."
    )
    ttl_s: int = setting(
        7 * 86_400, "How long a silent conversation is remembered.", unit="s", ge=60, le=31_536_000
    )

    @property
    def longest_ttl_s(self) -> int:
        """How long a turn may be remembered: each of `turns` further ones renews it."""
        return self.ttl_s * max(1, self.turns)


class ModelCalls(Group):
    """What all calls of all models have in common."""

    max_concurrent: int = setting(
        0, "Calls at once, of all models and workers together; 0: no limit.", ge=0, le=100_000
    )
    breaker_failures: int = setting(
        10, "Failed calls after which a model is left alone; 0: never.", ge=0, le=10_000
    )
    breaker_ratio: float = setting(
        0.5, "Share of the calls that must have failed for it.", ge=0.01, le=1
    )
    breaker_window_s: float = setting(
        30, "How long a failed call is remembered.", unit="s", ge=1, le=3600
    )
    breaker_open_s: float = setting(
        5, "How long the endpoint is left alone before it is tried.", unit="s", ge=0.1, le=3600
    )
    breaker_slow_s: float = setting(
        0, "A first token later than this counts as failed; 0: never.", unit="s", ge=0, le=300
    )


class Keys(Group):
    """How long keys of the ring live (`clawdbot keys`)."""

    primary_days: int = setting(90, "How long the active key is valid.", unit="days", ge=1, le=3650)
    backup_days: int = setting(180, "How long a backup key is valid.", unit="days", ge=1, le=3650)
    overlap_days: float = setting(
        7, "How long a replaced key is still accepted.", unit="days", ge=0, le=365
    )
    warn_days: int = setting(
        14, "How long before its end a key is warned of.", unit="days", ge=0, le=365
    )
    generate_command: str = setting(
        "", 'Prints a new pair as JSON ({"akId", "akSecret"}), for `clawdbot keys rotate`.'
    )


class Quota(Group):
    """The limits of one kind of consumer; 0: none."""

    requests_per_minute: int = setting(0, "Messages a minute; 0: no limit.", ge=0, le=10_000_000)
    requests_per_day: int = setting(0, "Messages a day; 0: no limit.", ge=0, le=1_000_000_000)
    tokens_per_minute: int = setting(
        0, "Tokens a minute, of question and answer; 0: no limit.", ge=0, le=1_000_000_000
    )
    tokens_per_day: int = setting(
        0, "Tokens a day, of question and answer; 0: no limit.", ge=0, le=1_000_000_000_000
    )


class Quotas(Group):
    """What each person, group, bot and company (tenant) may use."""

    user: Quota = Quota()
    group: Quota = Quota()
    bot: Quota = Quota()
    tenant: Quota = Quota()
    exempt: Names = setting(
        (), "Ids of people, groups and companies without limits; their use is still counted."
    )


class ConfigCenter(Group):
    """Places whose values change while processes run; stronger than all others."""

    file: Path | None = setting(None, "A YAML file that is watched: a mounted ConfigMap, say.")
    redis: bool = setting(True, "Follow what `clawdbot config set` writes into Redis.")


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
    text_days: int = setting(
        0,
        "Age at which their texts are removed, so that they can't run again; 0: with the letter.",
        unit="days",
        ge=0,
        le=3650,
    )


class Metrics(Group):
    """Where a worker shows its metrics; the ingress has its own port."""

    host: str = setting("127.0.0.1", "Address a worker shows its metrics on.", min_length=1)
    port: int = setting(
        9540,
        "Port of the first worker of a machine, further ones take the next; 0: none.",
        ge=0,
        le=65_535,
    )


class Log(Group):
    level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_upper)
    ] = setting("INFO", "DEBUG, INFO, WARNING, ERROR or CRITICAL.")
    content: bool = setting(False, "Write message text into the logs.")
    dir: Path | None = setting(None, "Folder for log files besides stdout.")
    max_bytes: int = setting(
        100_000_000,
        "Size at which a log file is turned over; 0: never, logrotate does it.",
        unit="bytes",
        ge=0,
        le=1_000_000_000_000,
    )
    backups: int = setting(5, "Older files that are kept of each.", unit="files", ge=1, le=1000)

    @property
    def files(self) -> dict[str, Any]:
        """What `logs.configure` and `audit.configure` want to know of the files."""
        return {"directory": self.dir, "max_bytes": self.max_bytes, "backups": self.backups}
