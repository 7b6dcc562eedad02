"""Replying in DingTalk: requests to build, answers to read. Facts and sources: README.md.

Two routes: `session`, the webhook that came with the message and lives for about 1.5 h, and
`robot`, the API. Neither has an idempotency key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from shared.errors import PermanentError, RouteExpiredError, TransientError
from shared.http_values import HttpRequest, HttpResponse
from shared.messages import AddressPage, Delivered, Part, Route, Token
from shared.platforms.dingtalk.errors import (
    CODES,
    robot_error_in,
    session_error_in,
    token_error_in,
)
from shared.platforms.dingtalk.settings import DingTalkSettings
from shared.platforms.settings import reveal
from shared.platforms.text import (
    compact_json,
    lifetime_s_in,
    ms_in,
    sendable,
    split,
    string_in,
    token_in,
)

SESSION = Route("session", needs_token=False)
ROBOT = Route("robot", needs_token=True)
#: msgParam may have 15 000 bytes, a webhook's text 20 000; which route a part takes is open.
PART_BYTES = 14_000
SESSION_MARGIN_S = 60  #: a webhook about to expire is left alone
TOKEN_MARGIN_S = 300  #: the official SDK refreshes this early

#: Strict, so that no other parser can see another host in it than we do. A path of its own, or any
#: group robot's address on the same host would do.
_URL = re.compile(
    r"(https?://[a-z0-9.:\[\]-]+)(?:/[!\"$->@-\[\]-~]*)?/robot/sendBySession(?:\?[!-\[\]-~]*)?"
)
_MENTION_ALL = re.compile(r"@(?=\s*(?:all\b|everyone\b|所有人|全体成员))", re.IGNORECASE)


class DingTalkOutbound:
    """The sending half of one bot. See `shared.platforms.base.Outbound`."""

    codes = CODES

    def __init__(self, settings: DingTalkSettings) -> None:
        self._app_key = settings.app_key
        self._secrets = reveal(settings.app_secret)
        self._robot_code = settings.robot_code
        self._base = settings.api_base
        self._webhook_origins = settings.webhook_origins

    def routes(self, address: Mapping[str, str], secret: str, *, now: float) -> tuple[Route, ...]:
        expires_s = ms_in(address.get("expires_ms")) / 1000
        lives = now < expires_s - SESSION_MARGIN_S and self._is_allowed(secret)
        is_known = address.get("conversation_id" if _is_group(address) else "staff_id")
        return ((SESSION,) if lives else ()) + ((ROBOT,) if is_known else ())

    def _is_allowed(self, webhook: str) -> bool:
        """Whether to post there: the body that named the address was not signed."""
        found = _URL.fullmatch(webhook)
        return found is not None and found[1] in self._webhook_origins

    def parts(self, text: str) -> tuple[str, ...]:
        return split(_MENTION_ALL.sub("＠", sendable(text)), PART_BYTES)

    def reply_request(self, route: Route, part: Part, token: str) -> HttpRequest:
        """See `shared.platforms.base.Outbound`.

        Raises:
            RouteExpiredError: the session webhook is none, or its host is not allowed.
        """
        return self._robot(part, token) if route.name == ROBOT.name else self._session(part)

    def _session(self, part: Part) -> HttpRequest:
        if not self._is_allowed(part.secret):
            raise RouteExpiredError(
                "dingtalk:webhook_host",
                "the session webhook is none, or its host is not in webhook_hosts",
            )
        nobody = {"atMobiles": [], "atUserIds": [], "isAtAll": False}
        value = {"msgtype": "text", "text": {"content": part.text}, "at": nobody}
        return HttpRequest.post_json(part.secret, value)

    def _robot(self, part: Part, token: str) -> HttpRequest:
        address = part.address
        value: dict[str, Any] = {
            "robotCode": address.get("robot_code") or self._robot_code,
            "msgKey": "sampleText",
            "msgParam": compact_json({"content": part.text}),
        }
        if _is_group(address):
            path, value["openConversationId"] = "groupMessages/send", address["conversation_id"]
        else:
            path, value["userIds"] = "oToMessages/batchSend", [address["staff_id"]]
        headers = {"x-acs-dingtalk-access-token": token}
        return HttpRequest.post_json(f"{self._base}/v1.0/robot/{path}", value, headers)

    def read_reply(self, route: Route, response: HttpResponse) -> Delivered:
        error = (robot_error_in if route.name == ROBOT.name else session_error_in)(response)
        if error:
            raise error
        return Delivered(string_in(response.json_object().get("processQueryKey")))

    def token_requests(self) -> tuple[HttpRequest, ...]:
        url = f"{self._base}/v1.0/oauth2/accessToken"
        return tuple(
            HttpRequest.post_json(url, {"appKey": self._app_key, "appSecret": secret})
            for secret in self._secrets
        )

    def read_token(self, response: HttpResponse) -> Token:
        error = token_error_in(response)
        if error:
            raise error
        answer = response.json_object()
        value = token_in(answer.get("accessToken"))
        lifetime_s = lifetime_s_in(answer.get("expireIn"), margin_s=TOKEN_MARGIN_S)
        if not value or not lifetime_s:
            raise TransientError("dingtalk:token_unreadable", "the answer holds no usable token")
        return Token(value, lifetime_s)

    def addresses_request(self, token: str, page: str) -> None:
        """DingTalk publishes no addresses that its robots' messages come from."""

    def read_addresses(self, response: HttpResponse) -> AddressPage:
        raise PermanentError("dingtalk:no_addresses", "DingTalk publishes none")


def _is_group(address: Mapping[str, str]) -> bool:
    return address.get("is_group") == "1"
