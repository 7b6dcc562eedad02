"""The values that travel: Event in, Reply out. Frozen, and versioned on the wire."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from shared.trace_context import Trace

WIRE_VERSION = 1
MAX_TEXT_BYTES = 64 * 1024  #: what one event keeps of a message's text


@dataclass(frozen=True, slots=True)
class Event:
    """One authenticated message from a person.

    reply_address: made by the room's inbound half and understood only by its outbound half.
    reply_secret: the part of the address that is a secret (a session webhook); sealed on the wire.
    created_ms: when the person sent it, by the platform's clock (0: not told).
    tenant_id: the company that uses the bot. conversation_name: a group's title, where it is told.
    traceparent, tracestate: of the call that brought it (`shared.trace_context`), if it had them.
    """

    platform: str
    app_id: str
    message_id: str
    event_id: str
    conversation_id: str
    text: str
    sender_id: str = ""
    sender_name: str = ""
    tenant_id: str = ""
    conversation_name: str = ""
    is_group: bool = False
    created_ms: int = 0
    reply_address: Mapping[str, str] = field(default_factory=dict)
    reply_secret: str = field(default="", repr=False)
    traceparent: str = field(default="", compare=False)
    tracestate: str = field(default="", compare=False)
    #: Proved by a secret that is no longer the current one. Only the ingress wants to know.
    by_old_secret: bool = field(default=False, compare=False, metadata={"wire": False})
    #: The event's one name in records, logs and hints: the same for every redelivery of it.
    trace_id: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        name = digest(self.platform, self.app_id, self.message_id)
        object.__setattr__(self, "trace_id", name)

    @property
    def trace(self) -> Trace:
        """What calls made for it tell of it."""
        return Trace(self.trace_id, self.traceparent, self.tracestate)

    def to_wire(self, seal: Callable[[str], str]) -> str:
        """JSON for the event's record: text capped, `reply_secret` sealed.

        Written out, at a quarter of what the general encoder takes; it stands in the way of a 200.
        """
        address = ",".join([f"{_quote(k)}:{_quote(v)}" for k, v in self.reply_address.items()])
        secret = seal(self.reply_secret) if self.reply_secret else ""
        trace = self._trace_wire() if self.traceparent else ""
        return encodable(
            f'{{"v":{WIRE_VERSION},"platform":{_quote(self.platform)}'
            f',"app_id":{_quote(self.app_id)},"message_id":{_quote(self.message_id)}'
            f',"event_id":{_quote(self.event_id)},"conversation_id":{_quote(self.conversation_id)}'
            f',"text":{_quote(cap_text(self.text))},"sender_id":{_quote(self.sender_id)}'
            f',"sender_name":{_quote(self.sender_name)},"tenant_id":{_quote(self.tenant_id)}'
            f',"conversation_name":{_quote(self.conversation_name)}'
            f',"is_group":{"true" if self.is_group else "false"},"created_ms":{self.created_ms}'
            f',"reply_address":{{{address}}},"reply_secret":{_quote(secret)}{trace}}}'
        )

    def _trace_wire(self) -> str:
        return f',"traceparent":{_quote(self.traceparent)},"tracestate":{_quote(self.tracestate)}'

    @classmethod
    def from_wire(cls, wire: str, unseal: Callable[[str], str]) -> Event:
        """The event again. Fields that a later release added are left aside."""
        value = json.loads(wire)
        value = {name: value[name] for name in _EVENT_FIELDS if name in value}
        secret = value.get("reply_secret", "")
        return cls(**{**value, "reply_secret": unseal(secret) if secret else ""})


_EVENT_FIELDS = tuple(f.name for f in fields(Event) if f.init and f.metadata.get("wire", True))


@dataclass(frozen=True, slots=True)
class Reply:
    """What the person will read, already cut into parts that the platform takes, in order.

    kind: "answer"; "notice" when the event finally failed; "working" when it takes longer.
    """

    parts: tuple[str, ...]
    kind: str = "answer"

    def to_wire(self) -> str:
        return dump_json({"v": WIRE_VERSION, "parts": self.parts, "kind": self.kind})

    @classmethod
    def from_wire(cls, wire: str) -> Reply:
        value = json.loads(wire)
        return cls(tuple(value["parts"]), value["kind"])

    def key(self, event_id: str, part: int) -> str:
        """The idempotency key of one part: at most 50 characters, the same for every try."""
        return f"{event_id}-{self.kind[0]}{part}"


@dataclass(frozen=True, slots=True)
class Challenge:
    """An address check: `body` is the JSON object to answer with."""

    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Ignored:
    """Authentic, but nothing for us to answer: 200, counted by `reason` (from a closed set)."""

    reason: str


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of a reply, as long as the platform takes.

    key: idempotency key, the same for every try of this part.
    """

    text: str
    key: str
    address: Mapping[str, str]
    secret: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Route:
    """One way to reach the person.

    idempotent_s: how long the platform drops repeats with the same key (0: it never does).
    """

    name: str
    needs_token: bool
    idempotent_s: int = 0


@dataclass(frozen=True, slots=True)
class Token:
    """A platform access token. `expires_in_s`: for how long from now it may be used."""

    value: str = field(repr=False)
    expires_in_s: float


@dataclass(frozen=True, slots=True)
class AddressPage:
    """Some of the addresses and networks a platform calls from. next_page: "" for the last."""

    addresses: tuple[str, ...]
    next_page: str = ""


@dataclass(frozen=True, slots=True)
class Delivered:
    """The platform took the part. `receipt` is its id for it, where it gives one."""

    receipt: str = ""


def digest(*names: str) -> str:
    """24 hex digits naming a tuple of strings; 96 bits, so that a day's ids never collide."""
    return _digest(*names).hex()


def seen_id(event: Event) -> bytes:
    """How an event id is remembered; empty where the message id says it all."""
    if event.event_id in ("", event.message_id):
        return b""
    return _digest(event.event_id)


def _digest(*names: str) -> bytes:
    joined = "\x00".join(names).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(joined, digest_size=12).digest()


_quote = json.encoder.encode_basestring
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def dump_json(value: Any) -> str:
    """Compact JSON that UTF-8 can carry (a lone surrogate becomes `?`)."""
    return encodable(_encode(value))


def encodable(text: str) -> str:
    """`text` as UTF-8 can carry it: a lone surrogate becomes `?`."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def cap_text(text: str, limit_bytes: int = MAX_TEXT_BYTES) -> str:
    """`text`, cut at a character border so that its UTF-8 form has at most `limit_bytes`."""
    if len(text) * 4 <= limit_bytes:
        return text
    raw = text.encode("utf-8", "replace")
    return text if len(raw) <= limit_bytes else raw[:limit_bytes].decode("utf-8", "ignore")
