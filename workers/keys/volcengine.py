"""Volcengine: an AccessKey pair is exchanged for an API key of Ark, good for some endpoints only.

https://www.volcengine.com/docs/82379/1262825; the answer's shape is that which the volcengine SDK
reads: `{"Result": {"ApiKey", "ExpiredTime"}}`, the time in seconds of Unix time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from shared.http_values import HttpRequest, HttpResponse
from shared.messages import Token, dump_json
from workers.keys import volc_auth
from workers.keys.exchange import LIFETIME_S, key_text, short_code, usable_s
from workers.keys.pair import KeyPair

ADDRESS = "https://ark.cn-beijing.volcengineapi.com"

_QUERY = {"Action": "GetApiKey", "Version": "2024-01-01"}
_CONTENT_TYPE = "application/json"
_SERVICE = "ark"
_REGION = re.compile(r"ark\.([a-z0-9-]+)\.")
_USUAL_REGION = "cn-beijing"


class VolcengineExchange:
    """See `Exchange`. resource_ids: the endpoints (`ep-…`) that the key is for."""

    cloud = "volcengine"

    def __init__(self, resource_ids: Sequence[str], address: str | None = None) -> None:
        self._resource_ids = list(resource_ids)
        self._address = address or ADDRESS

    def request(self, pair: KeyPair, *, now: float) -> HttpRequest:
        """See `Exchange.request`."""
        url = urlsplit(self._address)
        path, date = url.path + "/", volc_auth.utc(now)
        body = dump_json(
            {
                "DurationSeconds": LIFETIME_S,
                "ResourceType": "endpoint",
                "ResourceIds": self._resource_ids,
            }
        ).encode()
        region = _REGION.match(url.netloc)
        headers = {
            "Content-Type": _CONTENT_TYPE,
            "X-Content-Sha256": volc_auth.body_digest(body),
            "X-Date": date,
            "Authorization": volc_auth.authorization(
                pair,
                "POST",
                path,
                _QUERY,
                body,
                host=url.netloc,
                content_type=_CONTENT_TYPE,
                region=region[1] if region else _USUAL_REGION,
                service=_SERVICE,
                date=date,
            ),
        }
        target = f"{self._address}/?Action={_QUERY['Action']}&Version={_QUERY['Version']}"
        return HttpRequest("POST", target, headers, body)

    def read(self, response: HttpResponse, *, now: float) -> Token:
        """See `Exchange.read`."""
        result: dict[str, Any] = response.json_object()["Result"]
        return Token(key_text(result["ApiKey"]), usable_s(float(result["ExpiredTime"]) - now))

    def error_code(self, response: HttpResponse) -> str:
        """See `Exchange.error_code`: `{"ResponseMetadata": {"Error": {"Code"}}}`."""
        metadata = response.json_object().get("ResponseMetadata")
        error = metadata.get("Error") if isinstance(metadata, dict) else None
        return short_code(error.get("Code") if isinstance(error, dict) else None)
