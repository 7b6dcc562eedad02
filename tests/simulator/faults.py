"""Ordered misbehaviour: what shall go wrong, how often, and for whose message."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

_SEND_TARGETS = ("dingtalk.session", "dingtalk.robot", "feishu.reply")
_TOKEN_TARGETS = ("dingtalk.token", "feishu.token")
_ASKED_TARGETS = ("feishu.addresses",)
_EXCHANGE_TARGETS = ("baidu.token", "volcengine.key")
_MODEL_TARGETS = ("model", "backup")
TARGETS = (
    *_MODEL_TARGETS,
    *_SEND_TARGETS,
    *_TOKEN_TARGETS,
    *_ASKED_TARGETS,
    *_EXCHANGE_TARGETS,
)

#: Kinds after which the work is not done: the fault answers (or doesn't) in its place.
_STOPPING = frozenset({"status", "errcode", "empty", "hang", "drop"})
#: Kinds that do the work and spoil the answer.
_SPOILING = frozenset({"slow", "drip", "cut", "lose_response"})

#: Kinds of the model that answer, each in its own way.
_SPOKEN = frozenset({"error_event", "finish", "long", "ragged", "think", "unfinished"})

KINDS: Mapping[str, frozenset[str]] = {
    **{target: _STOPPING | _SPOILING | {"expire_tokens"} for target in TARGETS},
    **{target: _STOPPING | _SPOILING for target in ("dingtalk.session", *_EXCHANGE_TARGETS)},
    **{target: _STOPPING | _SPOILING | _SPOKEN for target in _MODEL_TARGETS},
}


class FaultError(ValueError):
    """An order that makes no sense; the text says why."""


@dataclass(slots=True)
class Fault:
    """One order. `left` counts down from `times`; times 0 lasts until cleared.

    status, body, headers: what `status` answers; status also overrides that of `errcode`.
    code, message: the platform's error of `errcode`; the message is what `think` thinks, too.
    delay_s: how long `slow` waits, and how long `hang` holds the connection.
    bytes_per_s: the speed of `drip`.
    after_tokens: how much of a stream `cut`, `error_event`, `finish`, `unfinished` and the model's
        `hang` let through.
    finish_reason: what `finish` gives.
    answer_text: what the model says instead; `long` makes up `chars` characters without it.
    """

    target: str
    kind: str
    times: int = 1
    match: str = ""
    status: int = 0
    body: Any = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    code: str | int = ""
    message: str = "ordered fault"
    delay_s: float = 0.0
    bytes_per_s: float = 1.0
    after_tokens: int = 0
    finish_reason: str = "length"
    answer_text: str = ""
    chars: int = 40_000
    hits: int = 0

    @property
    def stops_work(self) -> bool:
        return self.kind in _STOPPING

    @property
    def is_spent(self) -> bool:
        return 0 < self.times <= self.hits

    def applies(self, target: str, texts: Iterable[str]) -> bool:
        if self.target != target or self.is_spent:
            return False
        return not self.match or any(self.match in text for text in texts)


class Faults:
    """The orders in force, first come first served."""

    def __init__(self) -> None:
        self._orders: list[Fault] = []

    def order(self, fields: Mapping[str, Any]) -> Fault:
        """Add an order from its JSON form.

        Raises:
            FaultError: unknown target, kind or parameter.
        """
        try:
            fault = Fault(**fields)
        except TypeError as error:
            raise FaultError(
                f"not a fault: {str(error).removeprefix('Fault.__init__() ')}"
            ) from None
        if fault.target not in KINDS:
            raise FaultError(f"unknown target {fault.target!r}; one of {', '.join(TARGETS)}")
        if fault.kind not in KINDS[fault.target]:
            kinds = ", ".join(sorted(KINDS[fault.target]))
            raise FaultError(f"{fault.target} has no kind {fault.kind!r}; one of {kinds}")
        if fault.match and fault.target in (*_TOKEN_TARGETS, *_EXCHANGE_TARGETS):
            raise FaultError("a token request carries no text: leave match empty")
        _check_numbers(fault)
        self._orders.append(fault)
        return fault

    def take(self, target: str, *texts: str) -> Fault | None:
        """The order that strikes this call, counted; None when it goes through unharmed."""
        if not self._orders:
            return None
        fault = next((f for f in self._orders if f.applies(target, texts)), None)
        if fault:
            fault.hits += 1
        return fault

    def clear(self) -> None:
        self._orders.clear()

    def as_json(self) -> list[dict[str, Any]]:
        return [asdict(fault) for fault in self._orders]


def _check_numbers(fault: Fault) -> None:
    for name in ("times", "status", "delay_s", "after_tokens", "chars"):
        value = getattr(fault, name)
        if not isinstance(value, int | float) or value < 0:
            raise FaultError(f"{name}: expected a number from 0 on, not {value!r}")
    if not isinstance(fault.bytes_per_s, int | float) or fault.bytes_per_s <= 0:
        raise FaultError(f"bytes_per_s: expected a number above 0, not {fault.bytes_per_s!r}")
