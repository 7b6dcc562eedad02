"""Who an event is counted for, and what it used. Counted in the call that writes its reply back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from shared.messages import Event, digest
from workers.model.chat import Answer
from workers.model.estimate import estimate

KINDS = ("user", "group", "bot", "tenant")
MAX_TOLD_TOKENS = 100_000_000  #: more than that for one call is no count
MAX_ID_CHARS = 128  #: a longer id is counted under its digest


@dataclass(frozen=True, slots=True)
class Consumers:
    """The platform's ids; empty where there is none. bot: its app id. tenant: the company."""

    user: str
    group: str
    bot: str
    tenant: str

    @classmethod
    def of(cls, event: Event) -> Consumers:
        group = event.conversation_id if event.is_group else ""
        return cls(event.sender_id, group, event.app_id, event.tenant_id)

    def ids(self) -> list[tuple[str, str]]:
        """Kind and id of those that there are."""
        return [(kind, name) for kind in KINDS if (name := getattr(self, kind))]


@dataclass(frozen=True, slots=True)
class Usage:
    """What one answered event used. offset_s: of the local time, which has the day, from UTC."""

    consumers: Consumers
    prompt_tokens: int
    completion_tokens: int
    offset_s: int

    @classmethod
    def of(
        cls, event: Event, messages: Iterable[Mapping[str, str]], answer: Answer, offset_s: int
    ) -> Usage:
        """The endpoint's figures; estimated where it gave none."""
        prompt = _told(answer.prompt_tokens) or estimate_prompt(messages)
        said = _told(answer.completion_tokens)
        completion = said or estimate(answer.text) + estimate(answer.reasoning)
        return cls(Consumers.of(event), prompt, completion, offset_s)

    def fields(self) -> list[str]:
        """The consumers as `_usage.lua` names them; the first is there for each event."""
        names = self.consumers
        more = (("group", names.group), ("tenant", names.tenant))
        return [user_field(names.user), *(f"{k}:{_short(n)}" for k, n in more if n)]


def user_field(person: str) -> str:
    """A person in the hash of a day; that of "" is of those who are counted together."""
    return f"user:{_short(person)}"


def estimate_prompt(messages: Iterable[Mapping[str, str]]) -> int:
    """The tokens of what the model is shown."""
    return sum(estimate(message["content"]) for message in messages)


def _told(tokens: int) -> int:
    """0 for what can't be true."""
    return tokens if 0 < tokens <= MAX_TOLD_TOKENS else 0


def _short(name: str) -> str:
    return name if len(name) <= MAX_ID_CHARS else "~" + digest(name)
