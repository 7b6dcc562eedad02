"""Calls that are signed as they should be, around contents that nobody expects."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from tests.hostile.case import IGNORED, REFUSED, Case, message, said, signed, wire_of
from tests.hostile.values import DEEP, TOO_DEEP, VALUES, Value, is_id, is_words

Path = tuple[str | int, ...]  #: names of members, and places in lists
Rule = Callable[[Any], bool]  #: whether a message with this value is still one to answer
Make = Callable[[str], dict[str, Any]]  #: a message as JSON, its ids from a name

_HERE = "@here@"  #: where a value goes
TAKEN_OR_NOT = IGNORED | REFUSED


def always(_: Any) -> bool:
    """Nothing depends on it: whatever it is, the message is answered."""
    return True


def never(_: Any) -> bool:
    """Everything depends on it, and no odd value is the right one."""
    return False


def is_absent(value: Any) -> bool:
    return value is None


FIELDS: Mapping[str, Mapping[Path, Rule]] = {
    "dingtalk": {
        ("msgId",): is_id,
        ("robotCode",): never,
        ("msgtype",): never,
        ("text",): never,
        ("text", "content"): is_words,
        ("content",): always,
        ("conversationId",): always,
        ("conversationType",): always,
        ("conversationTitle",): always,
        ("senderId",): always,
        ("senderStaffId",): always,
        ("senderNick",): always,
        ("senderCorpId",): always,
        ("chatbotCorpId",): always,
        ("chatbotUserId",): always,
        ("isAdmin",): always,
        ("atUsers",): always,
        ("sessionWebhook",): always,
        ("sessionWebhookExpiredTime",): always,
        ("createAt",): always,
        ("errorCode",): always,
        ("unheardOf",): always,
    },
    "feishu": {
        ("schema",): always,
        ("type",): always,
        ("challenge",): always,
        ("header",): never,
        ("header", "event_id"): always,
        ("header", "event_type"): never,
        ("header", "create_time"): always,
        ("header", "token"): never,
        ("header", "app_id"): is_absent,
        ("header", "tenant_key"): always,
        ("event",): never,
        ("event", "sender"): always,
        ("event", "sender", "sender_id"): always,
        ("event", "sender", "sender_id", "open_id"): always,
        ("event", "sender", "sender_type"): always,
        ("event", "message"): never,
        ("event", "message", "message_id"): is_id,
        ("event", "message", "chat_id"): is_id,
        ("event", "message", "chat_type"): never,
        ("event", "message", "message_type"): never,
        ("event", "message", "content"): never,
        ("event", "message", "mentions"): always,
        ("event", "message", "create_time"): always,
        ("unheardOf",): always,
    },
}


def fields(platform: str) -> Iterator[Case]:
    """Every value in every field of the usual message."""
    yield from field_cases(platform, FIELDS[platform], partial(message, platform))


def field_cases(platform: str, table: Mapping[Path, Rule], make: Make) -> Iterator[Case]:
    """Every value in every field of `table`, in messages that `make` made."""
    for path, rule in table.items():
        for name, value in VALUES.items():
            lands = value.is_readable and rule(value.decoded())
            told = f"{'.'.join(map(str, path))} is {name}"
            yield Case(told, _with(platform, make(told), path, value), TAKEN_OR_NOT, int(lands))


def _with(platform: str, body: dict[str, Any], path: Path, value: Value) -> bytes:
    branch: Any = body
    for step in path[:-1]:
        branch = branch[step]
    branch[path[-1]] = _HERE
    return wire_of(signed(platform, json.dumps(body).replace(f'"{_HERE}"', value.text)))


def texts(platform: str) -> Iterator[Case]:
    """Contents that are no message at all."""
    for name, body in _BODIES.items():
        yield Case(f"the body is {name}", wire_of(signed(platform, body)))


def encodings(platform: str) -> Iterator[Case]:
    """A message in what is not UTF-8 JSON, and said to be what it is not."""
    for name, encode in _ENCODINGS.items():
        plain = json.dumps(message(platform, name), ensure_ascii=False)
        yield Case(f"a message as {name}", wire_of(signed(platform, encode(plain))))
    for kind in _TYPES:
        request = said(platform, message(platform, kind))
        wire = wire_of(request, more=[f"Content-Type: {kind}"])
        yield Case(f"a message said to be {kind!r}", wire, TAKEN_OR_NOT, None)
    for coding in _CODINGS:
        request = said(platform, message(platform, coding))
        wire = wire_of(request, more=[f"Content-Encoding: {coding}"])
        yield Case(f"a plain message said to be {coding}", wire, IGNORED, 1)


def shapes(platform: str) -> Iterator[Case]:
    """Messages in unusual JSON; those that are still readable are taken."""
    for name, reshape in _SHAPES.items():
        request = signed(platform, reshape(json.dumps(message(platform, name))))
        yield Case(name, wire_of(request), IGNORED, 1)


_BODIES: Mapping[str, bytes] = {
    "empty": b"",
    "a space": b" ",
    "a NUL": b"\x00",
    "null": b"null",
    "true": b"true",
    "a number": b"17",
    "a string": b'"x"',
    "a list": b"[]",
    "a list of objects": b"[{},{}]",
    "an empty object": b"{}",
    "NaN": b"NaN",
    "an open object": b"{",
    "an object without a value": b'{"a":}',
    "an object with a trailing comma": b'{"a":1,}',
    "an object without quotes": b"{a:1}",
    "an object with single quotes": b"{'a':1}",
    "an object with a comment": b'{"a":1/* b */}',
    "two objects": b"{}{}",
    "two lines of objects": b"{}\n{}",
    "an object and a NUL": b"{}\x00",
    "an object behind a mark": b"\xef\xbb\xbf{}",
    "half a character": b'{"a":"\xc3"}',
    "an overlong character": b'{"a":"\xc0\xaf"}',
    "a surrogate in UTF-8": b'{"a":"\xed\xa0\x80"}',
    "a character beyond Unicode": b'{"a":"\xf4\x90\x80\x80"}',
    "lists nested too deeply": b"[" * TOO_DEEP,
    "objects nested too deeply": b'{"a":' * TOO_DEEP,
    "a number of 100 000 digits": b"1" * 100_000,
    "a key of 100 000 characters": b'{"' + b"k" * 100_000 + b'":1}',
    "XML": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
    "YAML": b'!!python/object/apply:os.system ["true"]',
    "a pickle": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
    "a form": b"msgId=1&text=hello",
    "a multipart form": b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--x--\r\n",
    "random bytes": bytes(range(256)) * 8,
}

_ENCODINGS: Mapping[str, Callable[[str], bytes]] = {
    "UTF-16": lambda text: text.encode("utf-16"),
    "UTF-16 without a mark": lambda text: text.encode("utf-16-le"),
    "UTF-32": lambda text: text.encode("utf-32"),
    "UTF-7 with a mark": lambda text: b"+/v8" + text.encode("utf-7"),
    "UTF-8 with a mark": lambda text: text.encode("utf-8-sig"),
    "GBK": lambda text: text.replace("hello", "你好").encode("gbk"),
    "Latin-1": lambda text: text.replace("hello", "é").encode("latin-1"),
    "EBCDIC": lambda text: text.encode("cp500"),
    "gzip": lambda text: gzip.compress(text.encode()),
    "zlib": lambda text: zlib.compress(text.encode()),
    "base64": lambda text: base64.b64encode(text.encode()),
    "a bomb": lambda _: gzip.compress(bytes(5_000_000)),
    "JSON in a string": lambda text: json.dumps(text).encode(),
    "JSON in a list": lambda text: f"[{text}]".encode(),
    "JSON that is cut": lambda text: text[:-1].encode(),
    "JSON and more": lambda text: f"{text}}}".encode(),
}
_TYPES = (
    "text/plain",
    "image/png; charset=utf-99",
    "multipart/form-data",
    "x",
    "a/b;" + "c" * 4000,
)
_CODINGS = ("gzip", "deflate", "br", "zstd", "gzip, gzip", "nonsense")

_SHAPES: Mapping[str, Callable[[str], str]] = {
    "white space everywhere": lambda text: " \r\n\t" + text.replace(":", " : ") + "\n" * 500,
    "every key twice, the first one wrong": lambda text: (
        '{"msgId":1,"header":2,"event":3,"text":[],"robotCode":"x",' + text[1:]
    ),
    "a thousand unknown members": lambda text: (
        "{" + "".join(f'"unknown {n}":{n},' for n in range(1000)) + text[1:]
    ),
    "a member nested deeply": lambda text: '{"deep":' + "[" * DEEP + "]" * DEEP + "," + text[1:],
    "a member of 650 000 characters": lambda text: '{"long":"' + "x" * 650_000 + '",' + text[1:],
    "every character escaped": lambda text: text.replace(
        "hello", "\\u0068\\u0065\\u006c\\u006c\\u006f"
    ),
    "text of 100 000 Chinese characters": lambda text: text.replace("hello", "好" * 100_000),
    "text of lone surrogates": lambda text: text.replace("hello", "\\ud800" * 3),
}
