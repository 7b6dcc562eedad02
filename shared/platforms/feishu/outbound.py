"""Replying in Feishu: requests to build, answers to read. Facts and sources: README.md.

One route, `reply`: it answers the person's own message, and its uuid makes repeats harmless
for an hour.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, urlencode

from shared.errors import TransientError
from shared.http_values import HttpRequest, HttpResponse
from shared.messages import AddressPage, Delivered, Part, Route, Token, digest
from shared.platforms.feishu.errors import CODES, read_error_in, reply_error_in, token_error_in
from shared.platforms.feishu.settings import FeishuSettings
from shared.platforms.settings import reveal
from shared.platforms.text import (
    compact_json,
    lifetime_s_in,
    object_in,
    sendable,
    split,
    string_in,
    token_in,
)

REPLY = Route("reply", needs_token=True, idempotent_s=3600)
#: 150 KB of text are allowed, but nobody reads them in one bubble; posts and cards stop at 30 KB.
PART_BYTES = 28_000
TOKEN_MARGIN_S = 600  #: the official SDK refreshes this early
MAX_KEY_CHARS = 50
ADDRESSES_PER_PAGE = 50  #: the most it gives

#: The start of a mention tag, however it is spaced, written or padded with invisible characters.
_MENTION_TAG = re.compile(
    r"(?:<|&lt;?|&#0*60;?|&#x0*3c;?)(?=[\s\u00ad\u200b-\u200f\u2060-\u2064\ufeff/]*at(?![a-z]))",
    re.IGNORECASE,
)


class FeishuOutbound:
    """The sending half of one bot. See `shared.platforms.base.Outbound`."""

    codes = CODES

    def __init__(self, settings: FeishuSettings) -> None:
        self._app_id = settings.app_id
        self._secrets = reveal(settings.app_secret)
        self._base = settings.api_base

    def routes(self, address: Mapping[str, str], secret: str, *, now: float) -> tuple[Route, ...]:
        """See `shared.platforms.base.Outbound`. A Feishu address has no secret, nor an end."""
        return (REPLY,) if address.get("message_id") else ()

    def parts(self, text: str) -> tuple[str, ...]:
        return split(_MENTION_TAG.sub("＜", sendable(text)), PART_BYTES)

    def reply_request(self, route: Route, part: Part, token: str) -> HttpRequest:
        message_id = quote(part.address["message_id"], safe="")
        value = {
            "content": compact_json({"text": part.text}),
            "msg_type": "text",
            "uuid": part.key if len(part.key) <= MAX_KEY_CHARS else digest(part.key),
        }
        url = f"{self._base}/open-apis/im/v1/messages/{message_id}/reply"
        return HttpRequest.post_json(url, value, {"Authorization": f"Bearer {token}"})

    def read_reply(self, route: Route, response: HttpResponse) -> Delivered:
        error = reply_error_in(response)
        if error:
            raise error
        data = object_in(response.json_object().get("data"))
        return Delivered(string_in(data.get("message_id")))

    def token_requests(self) -> tuple[HttpRequest, ...]:
        url = f"{self._base}/open-apis/auth/v3/tenant_access_token/internal"
        return tuple(
            HttpRequest.post_json(url, {"app_id": self._app_id, "app_secret": secret})
            for secret in self._secrets
        )

    def read_token(self, response: HttpResponse) -> Token:
        error = token_error_in(response)
        if error:
            raise error
        answer = response.json_object()
        value = token_in(answer.get("tenant_access_token"))
        lifetime_s = lifetime_s_in(answer.get("expire"), margin_s=TOKEN_MARGIN_S)
        if not value or not lifetime_s:
            raise TransientError("feishu:token_unreadable", "the answer holds no usable token")
        return Token(value, lifetime_s)

    def addresses_request(self, token: str, page: str) -> HttpRequest:
        """https://open.feishu.cn/document/server-docs/event-subscription-guide/list"""
        query = {"page_size": ADDRESSES_PER_PAGE, **({"page_token": page} if page else {})}
        url = f"{self._base}/open-apis/event/v1/outbound_ip?{urlencode(query)}"
        return HttpRequest("GET", url, {"Authorization": f"Bearer {token}"})

    def read_addresses(self, response: HttpResponse) -> AddressPage:
        error = read_error_in(response)
        if error:
            raise error
        data = object_in(response.json_object().get("data"))
        addresses = data.get("ip_list")
        if not isinstance(addresses, list):
            raise TransientError("feishu:addresses_unreadable", "the answer holds no addresses")
        page = string_in(data.get("page_token")) if data.get("has_more") is True else ""
        return AddressPage(tuple(string_in(address) for address in addresses), page)
