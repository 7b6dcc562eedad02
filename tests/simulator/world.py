"""The simulated outside world: who we are, what we remember, what shall go wrong."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.simulator import credentials as names
from tests.simulator.faults import Faults
from tests.simulator.key_desk import KeyDesk
from tests.simulator.ledger import Ledger

TOKEN_LIFETIME_S = 7200

#: Where our events come from, and some that exist in documentation only: more than one page.
OUTBOUND_ADDRESSES = ("127.0.0.1", "::1", *(f"203.0.113.{n}" for n in range(0, 120, 2)))


class TokenDesk:
    """Access tokens of one platform. The same one is given out while enough of its life is left."""

    def __init__(self, prefix: str, reuse_above_s: float, clock: Callable[[], float]) -> None:
        self._prefix = prefix
        self._reuse_above_s = reuse_above_s
        self._clock = clock
        self._expiries: dict[str, float] = {}
        self._newest = ""

    def issue(self) -> tuple[str, int]:
        """A valid token and the whole seconds it still lives."""
        left = self._expiries.get(self._newest, 0.0) - self._clock()
        if left <= self._reuse_above_s:
            self._newest = self._prefix + secrets.token_hex(16)
            left = TOKEN_LIFETIME_S
            self._expiries[self._newest] = self._clock() + left
        return self._newest, int(left)

    def is_valid(self, token: str) -> bool:
        return self._expiries.get(token, 0.0) > self._clock()

    def expire(self) -> None:
        """Every token given out so far is refused from now on."""
        self._expiries.clear()


@dataclass(slots=True)
class Pace:
    """How the stand-in model speaks. `tokens`: into how many pieces an answer is cut."""

    latency_s: float = 0.0
    tokens: int = 16
    token_interval_s: float = 0.0


@dataclass(slots=True)
class World:
    """Shared by all parts. `clock`: Unix seconds."""

    credentials: Mapping[str, str]
    parts: tuple[str, ...]
    ingress_url: str
    base_url: str
    clock: Callable[[], float] = time.time
    faults: Faults = field(default_factory=Faults)
    pace: Pace = field(default_factory=Pace)
    sessions_void_until_ms: int = 0
    date_offset_s: float = 0.0  #: what `Date` headers are off by
    outbound_addresses: tuple[str, ...] = OUTBOUND_ADDRESSES
    ledger: Ledger = field(init=False)
    keys: KeyDesk = field(init=False)
    dingtalk_tokens: TokenDesk = field(init=False)
    feishu_tokens: TokenDesk = field(init=False)
    feishu_uuids: dict[str, tuple[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ledger = Ledger(clock=lambda: self.clock())
        self.keys = KeyDesk(self.credentials.get(names.MODEL_KEY, ""), lambda: self.clock())
        # DingTalk gives the same token within its life, Feishu while 30 minutes are left.
        self.dingtalk_tokens = TokenDesk("", 0.0, lambda: self.clock())
        self.feishu_tokens = TokenDesk("t-", 1800.0, lambda: self.clock())

    def expire_sessions(self) -> None:
        """Session webhooks of messages written until now are refused from now on."""
        self.sessions_void_until_ms = int(self.clock() * 1000)
