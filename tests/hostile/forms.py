"""Messages in the other forms that they may come in, with every value in each field of these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tests.hostile.case import Case, message
from tests.hostile.contents import Path, Rule, always, field_cases, is_absent, never
from tests.hostile.values import is_words
from tests.integration.gateway import CREDENTIALS
from tests.simulator import credentials as names


def is_object(value: Any) -> bool:
    return isinstance(value, dict)


def is_no_object(value: Any) -> bool:
    return not isinstance(value, dict)


_MENTIONS = ("event", "message", "mentions")
_BOT, _COLLEAGUE = (*_MENTIONS, 0), (*_MENTIONS, 1)

GROUP: Mapping[Path, Rule] = {
    _MENTIONS: never,
    _BOT: is_object,  # one of an older kind, which doesn't say whom it mentions
    (*_BOT, "key"): always,
    (*_BOT, "id"): always,
    (*_BOT, "id", "open_id"): always,
    (*_BOT, "name"): always,
    (*_BOT, "mentioned_type"): never,
    (*_BOT, "tenant_key"): always,
    _COLLEAGUE: always,
    (*_COLLEAGUE, "key"): always,
    (*_COLLEAGUE, "id"): always,
    (*_COLLEAGUE, "name"): always,
    (*_COLLEAGUE, "mentioned_type"): always,
}
OLD: Mapping[Path, Rule] = {
    ("uuid",): always,
    ("token",): never,
    ("ts",): always,
    ("type",): always,
    ("schema",): always,
    ("header",): is_no_object,  # with one it is of the new kind, which has no type there
    ("event",): never,
    ("event", "type"): never,
    ("event", "app_id"): is_absent,
    ("event", "tenant_key"): always,
    ("event", "sender"): always,
    ("event", "message"): never,
}
CONTENT_AT_THE_TOP: Mapping[Path, Rule] = {("content",): is_words}


def in_groups() -> Iterator[Case]:
    """Feishu: a bot and a colleague are mentioned, and stand in the text."""
    yield from field_cases("feishu", GROUP, _in_a_group)


def old_envelopes() -> Iterator[Case]:
    """Feishu: the envelope of the first generation."""
    yield from field_cases("feishu", OLD, _in_an_old_envelope)


def at_the_top() -> Iterator[Case]:
    """DingTalk: the words where its documentation has them, too."""
    yield from field_cases("dingtalk", CONTENT_AT_THE_TOP, _at_the_top)


def _in_a_group(name: str) -> dict[str, Any]:
    body = message("feishu", f"group {name}", text="hello @_user_2 @_user_3", group=True)
    colleague = {
        "key": "@_user_2",
        "id": {"open_id": "ou_colleague"},
        "name": "王小明",
        "mentioned_type": "user",
    }
    body["event"]["message"]["mentions"].append(colleague)
    return body


def _in_an_old_envelope(name: str) -> dict[str, Any]:
    body = message("feishu", f"old {name}")
    header = body.pop("header")
    about = {"type": header["event_type"], "app_id": header["app_id"], "tenant_key": "t"}
    return {
        "uuid": header["event_id"],
        "token": CREDENTIALS[names.FEISHU_VERIFICATION_TOKEN],
        "ts": "1502199207.7171419",
        "type": "event_callback",
        "event": {**body["event"], **about},
    }


def _at_the_top(name: str) -> dict[str, Any]:
    body = message("dingtalk", f"top {name}")
    del body["text"]
    return body
