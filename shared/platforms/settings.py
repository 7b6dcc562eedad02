"""What every bot's settings have in common; each room adds its own fields."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, SecretStr


def _secret_list(value: Any) -> Any:
    """A plain string is one secret, commas included; a JSON list (or a list) is several."""
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("["):
            try:
                return json.loads(text)
            except ValueError as error:
                raise ValueError("starts like a JSON list but is not one") from error
        return [value] if text else []
    return value


#: Secrets under rotation: the first is in use, the others are still accepted.
Secrets = Annotated[tuple[SecretStr, ...], BeforeValidator(_secret_list)]


class BotSettings(BaseModel):
    """One bot: an app on one platform. `app_id` and `platform` name it in every Redis key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    platform: str
    signature_scheme: Literal["platform", "guide"] = "platform"
    uncertain_send: Literal["retry", "hold"] = "retry"
    busy_reply: bool = False
    reply_mode: Literal["text"] = "text"

    @property
    def bot_id(self) -> str:
        """The app id under which the platform knows this bot."""
        raise NotImplementedError

    @property
    def sealing_secrets(self) -> tuple[str, ...]:
        """What to derive the key from that seals this bot's secrets in Redis, newest first."""
        raise NotImplementedError
