"""Settings of the models: who is asked, with which key, within which limits."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator

from shared.config.fields import Group, setting
from shared.platforms.settings import Names, Secrets

DEFAULT_MODEL = "default"  #: the one made of `service.auth` and `model`


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


Endpoint = Annotated[str, AfterValidator(_endpoint)]


class Auth(Group):
    ak_id: str = setting(
        "", "Access key id; with auth=bearer it only tells one account from another."
    )
    ak_secret: Secrets = setting(
        (), "The model's key; of a JSON list the first is used, the others when it is refused."
    )
    endpoint: Endpoint | None = setting(
        None, "The OpenAI-compatible address of the model, up to and including /v1."
    )


class ModelSpec(Group):
    """What every model has; a named one adds its address and its key."""

    name: str = setting("default", "The model to ask for.", min_length=1)
    auth: Literal["bearer", "baidu", "volcengine"] = setting(
        "bearer", "bearer: the secret is the key; baidu, volcengine: the pair is exchanged for one."
    )
    auth_endpoint: Endpoint | None = setting(
        None, "Where the pair is exchanged; unset: the cloud's own address."
    )
    resource_ids: Names = setting(
        (), "With auth=volcengine: the endpoint ids (ep-…) that the key is for."
    )
    stream: bool = setting(True, "Stream the answer; without it the whole call has 5 s.")
    temperature: float | None = setting(
        None, "Sampling temperature; unset: the model's own.", ge=0, le=2
    )
    max_tokens: int | None = setting(
        None, "Longest answer; unset: the model's own.", unit="tokens", ge=1, le=1_000_000
    )
    vision: bool = setting(False, "Whether it understands images. No effect yet.")
    max_concurrent: int = setting(
        0,
        "Calls at once with its endpoint and key, by all models and workers; 0: no limit.",
        ge=0,
        le=100_000,
    )


class Model(ModelSpec):
    """The model named `default`; and what holds for all."""

    system_prompt: str = setting("", "What the model is told before every conversation.")
    chain: Names = setting((), "Models to ask, the first that can be; unset: the default one.")


class NamedModel(ModelSpec):
    """A block `models.<name>`."""

    endpoint: Endpoint = setting(..., "As CLAWDBOT_ENDPOINT.")
    ak_id: str = setting("", "As CLAWDBOT_AK_ID.")
    ak_secret: Secrets = setting((), "As CLAWDBOT_AK_SECRET.")
