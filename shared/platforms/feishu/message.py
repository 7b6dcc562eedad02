"""The event im.message.receive_v1: who wrote what, where.

https://open.feishu.cn/document/uAjLw4CM/ukTMukTMukTM/reference/im-v1/message/events/receive
"""

from __future__ import annotations

import re
from typing import Any

from shared.messages import Event, Ignored
from shared.platforms.text import id_in, load_json, ms_in, object_in, string_in

#: A placeholder and the space that follows it. ASCII on purpose: Chinese may follow at once.
_PLACEHOLDER = re.compile(r"(@_[0-9A-Za-z_]+)( ?)")
#: A message's id is a step of the path that answers it; these lead elsewhere, however encoded.
_OTHER_STEPS = (".", "..")


def read_message(
    app_id: str, event_id: str, tenant_id: str, event: dict[str, Any]
) -> Event | Ignored:
    """The Event in an authentic message event, or why it is not for us."""
    sender, message = object_in(event.get("sender")), object_in(event.get("message"))
    message_id, chat_id = id_in(message.get("message_id")), id_in(message.get("chat_id"))
    if not message_id or not chat_id or message_id in _OTHER_STEPS:
        return Ignored("malformed_event")
    mentions, is_group = _mentions(message), message.get("chat_type") != "p2p"
    text = _text(message, mentions)
    reason = _reason_to_ignore(sender, message, text, is_mentioned=_is_mentioned(mentions))
    if reason or text is None:
        return Ignored(reason)
    return Event(
        platform="feishu",
        app_id=app_id,
        message_id=message_id,
        event_id=event_id or message_id,
        conversation_id=chat_id,
        text=text,
        sender_id=id_in(object_in(sender.get("sender_id")).get("open_id")),
        tenant_id=tenant_id,
        is_group=is_group,
        created_ms=ms_in(message.get("create_time")),
        reply_address={"message_id": message_id, "chat_id": chat_id},
    )


def _reason_to_ignore(
    sender: dict[str, Any], message: dict[str, Any], text: str | None, *, is_mentioned: bool
) -> str:
    """Why a message gets no answer; "" when it gets one."""
    if sender.get("sender_type") in ("bot", "app"):
        return "from_bot"  # two bots that answer each other never stop
    if message.get("chat_type") != "p2p" and not is_mentioned:
        return "not_mentioned"
    if message.get("message_type") != "text":
        return "unsupported_message"
    if text is None:
        return "malformed_event"
    return "" if text else "empty_text"


def _mentions(message: dict[str, Any]) -> list[dict[str, Any]]:
    mentions = message.get("mentions")
    return [m for m in mentions if isinstance(m, dict)] if isinstance(mentions, list) else []


def _is_mentioned(mentions: list[dict[str, Any]]) -> bool:
    """Whether a bot is mentioned: ours, as far as an event can tell (its open_id isn't known)."""
    return any(
        m.get("mentioned_type", "bot") == "bot" and m.get("key") != "@_all" for m in mentions
    )


def _text(message: dict[str, Any], mentions: list[dict[str, Any]]) -> str | None:
    """A text message's words, its mentions written out; None where there is no text to read."""
    try:
        content = load_json(string_in(message.get("content")))
    except (ValueError, RecursionError):
        return None
    text = object_in(content).get("text")
    if not isinstance(text, str):
        return None
    text = string_in(text)
    if "@_" not in text:
        return text.strip()
    names = {"@_all": "@all"} | {string_in(m.get("key")): _shown(m) for m in mentions}
    return _PLACEHOLDER.sub(lambda found: _written_out(found, names), text).strip()


def _shown(mention: dict[str, Any]) -> str:
    """How a mention reads: a bot's not at all, since it only says whom the message is for."""
    if mention.get("key") == "@_all":
        return "@all"
    return "" if mention.get("mentioned_type") == "bot" else f"@{string_in(mention.get('name'))}"


def _written_out(found: re.Match[str], names: dict[str, str]) -> str:
    token, space = found.groups()
    shown = names.get(token, token)  # nobody explains it: it stays as it is
    return shown + space if shown else ""
