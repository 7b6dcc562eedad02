"""Addresses that lead elsewhere: where a reply would be posted, what an attachment would fetch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.hostile.case import IGNORED, Case, message, said, wire_of

ALLOWED = "127.0.0.1:9"  #: the one host that a session webhook may have in these tests
_PATH = "/robot/sendBySession?session=x"
#: Another host, another port.
_OTHERS = "evil.example 127.0.0.1 127.0.0.1:80 127.0.0.1:90 127.0.0.1:09 127.0.0.1:9:9 127.0.0.2:9 "
_OTHERS += "oapi.dingtalk.com api.dingtalk.com:443 127.0.0.1:9.evil.example "
#: Our host as somebody's name, or the other way round.
_USERS = "127.0.0.1:9@evil.example evil.example@127.0.0.1:9 a:b@127.0.0.1:9 @127.0.0.1:9 "
_USERS += "127.0.0.1:9%40evil.example evil.example#@127.0.0.1:9 evil.example?@127.0.0.1:9 "
_USERS += r"evil.example\@127.0.0.1:9 127.0.0.1:9\@evil.example 127.0.0.1:9;evil.example "
#: The same address, otherwise written: no reason to trust who writes it so.
_ALIASES = "localhost:9 LOCALHOST:9 127.1:9 127.0.1:9 2130706433:9 0x7f000001:9 0177.0.0.1:9 "
_ALIASES += "127.0.0.1.:9 127.0.0.01:9 0.0.0.0:9 0:9 [::1]:9 [::]:9 [::ffff:127.0.0.1]:9 "
_ALIASES += "[::ffff:7f00:1]:9 [::1%25lo]:9 [0:0:0:0:0:0:0:1]:9 127。0。0。1:9 １２７.0.0.1:9 "
_ALIASES += "①②⑦.0.0.1:9 127.0.0.1:９ loc\u00adalhost:9 "
#: What is inside.
_INSIDE = "10.0.0.1 172.16.0.1 192.168.0.1 169.254.169.254 100.100.100.200 [fd00::1] [fe80::1] "
_INSIDE += "metadata.google.internal redis:6379 127.0.0.1:6379 224.0.0.1 "
_LOOK_ALIKES = (
    "oapi.dingtalk.com.evil.example oapi-dingtalk.com oapi.dingtaIk.com oapi.dingtalk.co "
)
_LOOK_ALIKES += "оapi.dingtalk.com oapi.dingtalk.com%00.evil.example xn--api-dma.dingtalk.com "
_HOSTS = (_OTHERS + _USERS + _ALIASES + _INSIDE + _LOOK_ALIKES).split()
_HERE = f"http://{ALLOWED}"
#: W stands for the one path that is called.
_WRITTEN = (
    *(f"http://{host}{_PATH}" for host in _HOSTS),
    *(
        "",
        " ",
        "x",
        f"//{ALLOWED}/W",
        "/robot",
        f"http:/{ALLOWED}/W",
        f"http:{ALLOWED}/W",
        "http://",
    ),
    *(f"http:///{ALLOWED}/W", _HERE, f"{_HERE}?x", f"{_HERE}#x", f"{_HERE}\t/W", f"{_HERE}\\x"),
    *(f"ftp://{ALLOWED}/W", "file:///etc/passwd", f"gopher://{ALLOWED}/W", f"HTTP://{ALLOWED}/W"),
    *(f" {_HERE}/W", f"\t{_HERE}/W", f"{_HERE}/W y", f"{_HERE}/\x00", f"{_HERE}/é", f"{_HERE}/\\x"),
    *(f"{_HERE}/W\r\nHost: evil", f"h\nttp://{ALLOWED}/W", f"http://evil.example/?{_HERE}/W"),
    *("javascript:alert(1)", "data:text/html,x", f"{_HERE}/{'a' * 4000}"),
)
_URLS = tuple(each.replace("/W", _PATH) for each in _WRITTEN)
#: What would be more than one step of an API's path, if it were pasted into it.
_DOTTED = ".. . ... ../../auth/v3/tenant_access_token a/../../b ..%2f %2e%2e %2E%2e%2f ．． ․․ "
_OTHER = "a/b /a //evil.example/ a?b=c a#b a;b a%00 @evil.example a@b:c http://evil.example/ "
_STEPS = (
    *(_DOTTED + _OTHER).split(),
    r"..\..\\",
    "om_1/reply?uuid=",
    "{message_id}",
    "a&uuid=x",
    "a b",
)


def session_webhooks() -> Iterator[tuple[str, str, Case]]:
    """Name of the message, address, call: DingTalk's messages that want their answer elsewhere.

    They are taken all the same: the robot API can answer them.
    """
    for url in _URLS:
        body: dict[str, Any] = message("dingtalk", f"answer to {url}")
        body["sessionWebhook"] = url
        case = Case(f"a session webhook {url[:60]!r}", wire_of(said("dingtalk", body)), IGNORED, 1)
        yield body["msgId"], url, case


def steps() -> Iterator[tuple[str, Case]]:
    """Message id and call: Feishu's messages whose id is more than a step of a path."""
    for step in _STEPS:
        body = message("feishu", f"reply to {step}")
        body["event"]["message"]["message_id"] = step
        lands = 0 if step in (".", "..") else 1
        yield step, Case(f"a message id {step!r}", wire_of(said("feishu", body)), IGNORED, lands)


def attachments(platform: str) -> Iterator[Case]:
    """Files and pictures that lie elsewhere. Only text is answered: nothing is fetched."""
    for url in (*_URLS[:60:4], *_STEPS):
        for kind, content in _contents(platform, url).items():
            name = f"{kind} at {url[:40]!r}"
            wire = wire_of(said(platform, _attached(platform, name, kind, content)))
            yield Case(f"a {name}", wire, IGNORED)


def _contents(platform: str, url: str) -> dict[str, dict[str, Any]]:
    if platform == "feishu":
        return {
            "image": {"image_key": url},
            "file": {"file_key": url, "file_name": url},
            "post": {"content": [[{"tag": "img", "image_key": url}, {"tag": "a", "href": url}]]},
        }
    return {
        "picture": {"downloadCode": url, "pictureDownloadCode": url},
        "file": {"downloadCode": url, "fileName": url},
        "richText": {"richText": [{"type": "picture", "downloadCode": url}]},
    }


def _attached(platform: str, name: str, kind: str, content: dict[str, Any]) -> dict[str, Any]:
    body = message(platform, name)
    if platform == "feishu":
        body["event"]["message"] |= {"message_type": kind, "content": str(content)}
    else:
        body |= {"msgtype": kind, "content": content}
    return body
