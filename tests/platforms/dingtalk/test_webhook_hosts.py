"""The session webhook's address comes from a body that nobody signed: only our hosts are called."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from urllib3.util import parse_url

from shared.errors import PermanentError, RouteExpiredError
from shared.messages import Part
from shared.platforms.dingtalk.outbound import SESSION, DingTalkOutbound
from shared.platforms.dingtalk.settings import DingTalkSettings
from tests.platforms.dingtalk.samples import NOW, OPTIONS
from workers.client import _split

ADDRESS = {"is_group": "0", "expires_ms": str(int((NOW + 5400) * 1000))}
OUTBOUND = DingTalkOutbound(
    DingTalkSettings.model_validate(
        {
            **OPTIONS,
            "webhook_hosts": ["oapi.dingtalk.com", "gateway.example:8443", "127.0.0.1:9001"],
        }
    )
)
ALLOWED = {
    "https://oapi.dingtalk.com",
    "https://gateway.example:8443",
    "https://127.0.0.1:9001",
    "http://127.0.0.1:9001",
}
REFUSED = {
    "userinfo": [
        "https://oapi.dingtalk.com@evil.example/",
        "https://oapi.dingtalk.com:443@evil.example/",
        "https://oapi.dingtalk.com%40evil.example/",
        "https://a@oapi.dingtalk.com/",
        "https://@oapi.dingtalk.com/",
        "https://:@oapi.dingtalk.com/",
    ],
    "ports": [
        "https://oapi.dingtalk.com:443/",
        "https://oapi.dingtalk.com:0443/",
        "https://oapi.dingtalk.com:/",
        "https://oapi.dingtalk.com:6379/",
        "https://gateway.example/",
        "https://gateway.example:8444/",
        "http://127.0.0.1/",
        "http://127.0.0.1:9002/",
    ],
    "schemes": [
        "http://oapi.dingtalk.com/",
        "HTTPS://oapi.dingtalk.com/",
        "https:oapi.dingtalk.com/",
        "https:/oapi.dingtalk.com/",
        "https:///oapi.dingtalk.com/",
        "//oapi.dingtalk.com/",
        "file:///etc/passwd",
        "gopher://oapi.dingtalk.com/",
        "redis://127.0.0.1:9001/",
    ],
    "private addresses": [
        "https://127.0.0.1/",
        "https://localhost/",
        "https://10.0.0.1/",
        "https://169.254.169.254/latest/meta-data/",
        "https://100.100.100.200/latest/meta-data/",
        "https://[::1]/",
        "https://[::ffff:169.254.169.254]/",
        "https://[::ffff:7f00:1]:9001/",
        "https://0/",
        "https://0x7f000001:9001/",
        "https://2130706433:9001/",
        "https://0177.0.0.1:9001/",
        "https://127.1:9001/",
    ],
    "look-alikes": [
        "https://oapi.dingtalk.com.evil.example/",
        "https://evil-oapi.dingtalk.com/",
        "https://oapi-dingtalk.com/",
        "https://dingtalk.com/",
        "https://oapi.dingtalk.co/",
        "https://оapi.dingtalk.com/",
        "https://oapi.dingtalk。com/",
        "https://oapi.dingtalk．com/",
        "https://ｏapi.dingtalk.com/",
        "https://xn--api-5cd.dingtalk.com/",
        "https://OAPI.dingtalk.com/",
        "https://oapi.dingtalk.com\u200b/",
    ],
    "paths": [
        "https://oapi.dingtalk.com/robot/send?access_token=0a1b2c",
        "https://oapi.dingtalk.com/robot/send?x=/robot/sendBySession",
        "https://oapi.dingtalk.com/robot/send#/robot/sendBySession",
        "https://oapi.dingtalk.com/robot/sendBySession/../send",
        "https://oapi.dingtalk.com/robot/sendBySession#x",
        "https://oapi.dingtalk.com/robot/sendBySessions",
        "https://oapi.dingtalk.com/robot/sendbysession",
        "https://oapi.dingtalk.com/xrobot/sendBySession",
    ],
    "other parsers": [
        "https://oapi.dingtalk.com./",
        "https://oapi.dingtalk.com%2eevil.example/",
        "https://oapi.dingtalk.com%00.evil.example/",
        "https://oapi.dingtalk.com%2f@evil.example/",
        "https://oapi.dingtalk.com\\@evil.example/",
        "https://evil.example\\@oapi.dingtalk.com/",
        "https://oapi.dingtalk.com#@evil.example/",
        "https://oapi.dingtalk.com?@evil.example/",
        "https://oapi.dingtalk.com;evil.example/",
        "https://oapi.dingtalk.com,evil.example/",
        "https://oapi.dingtalk.com evil.example/",
        "https://oapi.dingtalk.com\tevil.example/",
        "https://oapi.dingtalk.com\n.evil.example/",
        "https://oapi.dingtalk.com\r\nHost: evil.example/",
        "https://oapi.dingtalk.com/\r\nX: y",
        "https://oapi.dingtalk.com/a\\..\\b",
        "https://oapi.dingtalk.com/\x00",
        "\nhttps://oapi.dingtalk.com/",
        "https://oapi.dingtalk.com/\n",
        "https://evil.example/https://oapi.dingtalk.com/",
        "https://[oapi.dingtalk.com]/",
        "https://oapi.dingtalk.com",
        "",
    ],
}
TAKEN = [
    "https://oapi.dingtalk.com/robot/sendBySession?session=0a1b2c",
    "https://oapi.dingtalk.com/..//@evil.example/robot/sendBySession?u=https://evil.example/#x@y",
    "https://oapi.dingtalk.com//evil.example/robot/sendBySession",
    "https://oapi.dingtalk.com/%0d%0aX:y/robot/sendBySession",
    "https://gateway.example:8443/x/robot/sendBySession",
    "http://127.0.0.1:9001/robot/sendBySession?",
]


def is_open(webhook: str) -> bool:
    return SESSION in OUTBOUND.routes(ADDRESS, webhook, now=NOW)


def complete(webhook: str) -> str:
    """With the right path where it has none: it is not to be refused for that."""
    return f"{webhook}robot/sendBySession" if webhook.endswith("/") else webhook


@pytest.mark.parametrize("webhook", [complete(each) for kind in REFUSED.values() for each in kind])
def test_an_address_elsewhere_or_nearly_ours_is_never_called(webhook: str) -> None:
    assert not is_open(webhook)
    with pytest.raises(RouteExpiredError, match="webhook_host") as caught:
        OUTBOUND.reply_request(SESSION, Part("hi", "k", ADDRESS, webhook), "")
    assert not webhook or webhook not in str(caught.value)


@pytest.mark.parametrize("webhook", TAKEN)
def test_every_parser_on_the_way_sees_the_host_that_was_allowed(webhook: str) -> None:
    assert is_open(webhook)
    check_parsers(webhook)


@given(st.text(alphabet="htps:/@.#?\\%[]0127oapidngtlk.cme x\n\t:8443", max_size=60))
def test_whatever_is_let_through_goes_to_an_allowed_host(text: str) -> None:
    for start in ("", "https://", "https://oapi.dingtalk.com"):
        for webhook in (f"{start}{text}/robot/sendBySession", f"{start}/robot/sendBySession{text}"):
            if is_open(webhook):
                check_parsers(webhook)


def check_parsers(webhook: str) -> None:
    """Python's, urllib3's and what our client really connects to agree on an allowed origin."""
    parts, other = urlsplit(webhook), parse_url(webhook)
    assert f"{parts.scheme}://{parts.netloc}" in ALLOWED
    assert f"{other.scheme}://{other.netloc}" in ALLOWED
    try:
        origin, host, _ = _split(webhook)
    except PermanentError:
        return  # not sent at all
    assert origin in ALLOWED
    assert origin.endswith(f"//{host}")
