"""What the model is told first: the bot's system prompt, its variables filled in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from shared.config.settings import PROMPT_VARIABLES
from shared.messages import Event
from workers.conversation import ChatMessage, read
from workers.notices import language_of

MAX_NAME_CHARS = 64  #: of a name that people chose themselves

#: What stands for a name that the platform doesn't tell, in the prompt's language: a sentence with
#: a gap ("You help .") says nothing to a model.
_UNKNOWN = {
    "zh": {"sender_name": "用户", "group_name": "当前会话"},
    "en": {"sender_name": "the user", "group_name": "this conversation"},
}
_VARIABLE = re.compile(r"\{(" + "|".join(PROMPT_VARIABLES) + r")\}")
_NOT_PLAIN = re.compile(r"[\s\x00-\x1f\x7f{}<>\u200b-\u200f\u2028-\u202e\u2066-\u2069]+")


def prompt(system: str, history: Sequence[str], text: str) -> list[ChatMessage]:
    """The messages for the model: system prompt, earlier turns, then what the person wrote."""
    messages = [{"role": "system", "content": system}] if system else []
    messages.extend(map(read, history))
    messages.append({"role": "user", "content": text})
    return messages


def filled(template: str, event: Event, now_s: float, zone: ZoneInfo) -> str:
    """The system prompt for `event`. now_s: Unix time. Other braces stay as they are.

    Names are people's own words: they lose line breaks and what could look like markup. One that is
    not told, or has nothing left then, is a neutral word.
    """
    if "{" not in template:
        return template
    unknown = _UNKNOWN[language_of(template)]
    values = {
        "sender_name": _plain(event.sender_name) or unknown["sender_name"],
        "group_name": _plain(event.conversation_name) or unknown["group_name"],
        "date": datetime.fromtimestamp(now_s, zone).date().isoformat(),
    }
    return _VARIABLE.sub(lambda variable: values[variable[1]], template)


def _plain(name: str) -> str:
    return _NOT_PLAIN.sub(" ", name).strip()[:MAX_NAME_CHARS]
