"""What people, groups, bots and companies may use. Without quotas nothing is asked of Redis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from shared.config import Settings
from shared.config.live import Live
from shared.local_time import utc_offset_s
from shared.messages import Event
from workers.claim import Claim
from workers.store import Lanes
from workers.usage import KINDS, Consumers, estimate_prompt

#: In the order in which `quota.lua` is told of them.
LIMITS = ("requests_per_minute", "requests_per_day", "tokens_per_minute", "tokens_per_day")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Which limit is reached: `kind` of consumer, `limit` of `LIMITS`; free again in `free_s`.

    0 s: the minute or day in which the message was written has ended by now.
    """

    kind: str
    limit: str
    free_s: int

    def __str__(self) -> str:
        return f"quota of {self.kind}: {self.limit}"


@dataclass(frozen=True, slots=True)
class Rules:
    """limits: of `LIMITS`, by kind of consumer; kinds without any are left out."""

    limits: Mapping[str, tuple[int, ...]]
    exempt: frozenset[str]

    @classmethod
    def of(cls, settings: Settings) -> Rules:
        limits = {kind: found for kind in KINDS if any(found := _limits(settings, kind))}
        return cls(limits, frozenset(settings.quotas.exempt))

    @property
    def counts_tokens(self) -> bool:
        return any(any(limits[2:]) for limits in self.limits.values())


class Quotas:
    """The limits of all consumers. Thread-safe."""

    def __init__(self, live: Live, lanes: Lanes) -> None:
        self._lanes = lanes
        self._zone = ZoneInfo(live.settings.timezone)
        self._rules = live.derive(Rules.of)

    def refusal(
        self, claim: Claim, event: Event, messages: Sequence[Mapping[str, str]]
    ) -> Refusal | None:
        """Count the event, once however often it is attempted, or say which limit it meets.

        It counts in the minute and the day in which it was accepted, whenever it is worked on.
        `messages`, the prompt, is reserved as an estimate until the answer is written back. An
        event with an exempt consumer is counted and never refused.

        Raises:
            ClaimLostError: somebody else has the head now; nothing was counted.
        """
        rules = self._rules.value
        if not rules.limits:
            return None
        ids = Consumers.of(event).ids()
        consumers = [each for each in ids if each[0] in rules.limits]
        if not consumers:
            return None
        accepted_ms = int(claim.record.get("accepted", claim.now_ms))
        reached = self._lanes.admit(
            claim,
            {claim.keys.bot.quota(kind, name): rules.limits[kind] for kind, name in consumers},
            tokens=estimate_prompt(messages) if rules.counts_tokens else 0,
            offset_s=utc_offset_s(self._zone, accepted_ms),
            is_exempt=any(name in rules.exempt for _, name in ids),
        )
        if not reached:
            return None
        consumer, limit, free_s = reached
        return Refusal(consumers[consumer - 1][0], LIMITS[limit - 1], free_s)


def _limits(settings: Settings, kind: str) -> tuple[int, ...]:
    quota = getattr(settings.quotas, kind)
    return tuple(getattr(quota, limit) for limit in LIMITS)
