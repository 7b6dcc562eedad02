"""What every bot's settings have in common; each room adds its own fields."""

from __future__ import annotations

import ipaddress
import json
import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)

_APP_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_HOST = re.compile(r"(\[[0-9a-f:]+\]|[a-z0-9-]+(\.[a-z0-9-]+)*)(:[0-9]{1,5})?")


def _secret_list(value: Any) -> Any:
    """A plain string is one secret, commas included; a JSON list (or a list) is several."""
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("["):
            try:
                value = json.loads(text)
            except ValueError as error:
                raise ValueError("starts like a JSON list but is not one") from error
        else:
            value = [value]
    if isinstance(value, list | tuple):
        return [item for item in value if not _is_blank(item)]
    return value


def string_list(value: Any) -> Any:
    """A JSON list, a list, or names separated by commas."""
    if isinstance(value, str):
        text = value.strip()
        value = _secret_list(text) if text.startswith("[") else text.split(",")
    if isinstance(value, list | tuple):
        stripped = [item.strip() if isinstance(item, str) else item for item in value]
        return [item for item in stripped if not _is_blank(item)]
    return value


def _is_blank(value: Any) -> bool:
    return isinstance(value, str) and not value.strip()


def _app_id(value: str) -> str:
    """App ids are part of Redis keys, so a colon or a brace in one would be a wrong key."""
    if not _APP_ID.fullmatch(value.strip()):
        raise ValueError(
            "must be 1 to 64 letters, digits, dots, dashes or underscores; copy it from the app's "
            "page in the platform's developer console"
        )
    return value.strip()


def _base_url(value: str) -> str:
    """https://host[:port][/path]; plain http is for loopback hosts alone (tests, the simulator)."""
    url = value.strip().rstrip("/")
    parts = urlsplit(url)
    if not is_host(parts.netloc) or parts.query or parts.fragment:
        raise ValueError("must be a URL like https://host[:port], without user, query or fragment")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.netloc)):
        raise ValueError("must begin with https:// (http:// is for 127.0.0.1 and localhost only)")
    return url


def is_host(netloc: str) -> bool:
    """Whether `netloc` is a lower-case host with an optional port, and nothing else."""
    return _HOST.fullmatch(netloc) is not None


def is_loopback(netloc: str) -> bool:
    """Whether a host, given with or without its port, is this machine itself."""
    try:
        host = urlsplit(f"//{netloc}").hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


#: Secrets under rotation: the first is in use, the others are still accepted.
Secrets = Annotated[tuple[SecretStr, ...], BeforeValidator(_secret_list)]
#: Several plain names.
Names = Annotated[tuple[str, ...], BeforeValidator(string_list)]
AppId = Annotated[str, AfterValidator(_app_id)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]


def reveal(secrets: tuple[SecretStr, ...]) -> tuple[str, ...]:
    """The secrets themselves, in order; keep them out of messages and logs."""
    return tuple(secret.get_secret_value() for secret in secrets)


class BotSettings(BaseModel):
    """One bot: an app on one platform. `app_id` and `platform` name it in every Redis key.

    A blank string counts as not set. A refused value is never printed: it may be a secret.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    platform: str = Field(description="Which platform the bot is on.")
    signature_scheme: Literal["platform", "guide"] = Field(
        default="platform",
        description="How calls are signed: the platform's way, or the guide's formula (tests).",
    )
    uncertain_send: Literal["retry", "hold"] = Field(
        default="retry",
        description="A reply that was perhaps sent: send it again, or keep it for a person.",
    )
    busy_reply: bool = Field(
        default=False,
        description="DingTalk: answer what was surely not taken with a text: please send it again.",
    )
    reply_mode: Literal["text"] = Field(default="text", description="What replies are made of.")
    model_chain: Names = Field(
        default=(), description="Models that answer, the first that can; unset: model.chain."
    )
    system_prompt: str = Field(
        default="", description="What the model is told first; unset: model.system_prompt."
    )
    notice_after_s: float = Field(
        default=0,
        ge=0,
        le=3600,
        allow_inf_nan=False,
        description="No word of an answer by then: one short notice; 0: none.",
        json_schema_extra={"unit": "s"},
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_blanks(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {name: value for name, value in values.items() if not _is_blank(value)}

    @property
    def bot_id(self) -> str:
        """The app id under which the platform knows this bot."""
        raise NotImplementedError

    @property
    def sealing_secrets(self) -> tuple[str, ...]:
        """What to derive the key from that seals this bot's secrets in Redis, newest first."""
        raise NotImplementedError

    def warnings(self) -> list[str]:
        """What is allowed but weaker than it should be: sentences for the log at start."""
        if self.signature_scheme == "platform":
            return []
        return [
            f"bot {self.bot_id}: signature_scheme is guide, so calls signed by {self.platform} "
            "itself are refused and only the deployment guide's formula is accepted; it leaves "
            "the body unsigned. Set signature_scheme: platform for a real bot."
        ]
