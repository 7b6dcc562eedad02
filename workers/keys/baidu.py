"""Baidu: an AccessKey pair is exchanged for a bearer token of Qianfan's v2 API.

https://cloud.baidu.com/doc/WENXINWORKSHOP/s/Um2wxbaps; the answer's shape is that which the
qianfan SDK reads: `{"userId", "token", "status", "createTime", "expireTime"}`, times in ISO 8601.
"""

from __future__ import annotations

from datetime import datetime
from urllib.parse import urlsplit

from shared.http_values import HttpRequest, HttpResponse
from shared.messages import Token
from workers.keys import bce_auth
from workers.keys.exchange import LIFETIME_S, key_text, short_code, usable_s
from workers.keys.pair import KeyPair

ADDRESS = "https://iam.bj.baidubce.com"

_PATH = "/v1/BCE-BEARER/token"


class BaiduExchange:
    """See `Exchange`. address: the base of another IAM than the public one."""

    cloud = "baidu"

    def __init__(self, address: str | None = None) -> None:
        self._address = address or ADDRESS

    def request(self, pair: KeyPair, *, now: float) -> HttpRequest:
        """See `Exchange.request`."""
        url = urlsplit(self._address)
        query = {"expireInSeconds": str(LIFETIME_S)}
        signed = {"host": url.netloc, "x-bce-date": bce_auth.utc(now)}
        headers = {
            "x-bce-date": signed["x-bce-date"],
            "Authorization": bce_auth.authorization(
                pair, "GET", url.path + _PATH, query, signed, now=now, signed=sorted(signed)
            ),
        }
        target = f"{self._address}{_PATH}?expireInSeconds={LIFETIME_S}"
        return HttpRequest("GET", target, headers)

    def read(self, response: HttpResponse, *, now: float) -> Token:
        """See `Exchange.read`. Both times are the cloud's, so our clock doesn't matter."""
        body = response.json_object()
        lifetime_s = _time(body["expireTime"]) - _time(body["createTime"])
        return Token(key_text(body["token"]), usable_s(lifetime_s))

    def error_code(self, response: HttpResponse) -> str:
        """See `Exchange.error_code`: `{"code", "message", "requestId"}`."""
        return short_code(response.json_object().get("code"))


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
