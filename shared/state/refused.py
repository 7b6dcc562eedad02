"""The sums of what was refused on a day: the fields of one hash, written by `audit_refused.lua`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Kind(NamedTuple):
    """What is told apart exactly. reason: from closed sets, as the metrics name it."""

    reason: str
    platform: str
    bot: str


@dataclass
class Refused:
    """Sums of one or several days. The address "" is those that were counted together."""

    kinds: Counter[Kind] = field(default_factory=Counter)
    addresses: Counter[str] = field(default_factory=Counter)

    def add(self, fields: Mapping[str, str]) -> int:
        """Take in a day's hash; how many were refused on it."""
        total = 0
        for name, count in fields.items():
            what, _, rest = name.partition(":")
            if what == "from":
                self.addresses[rest] += int(count)
            elif what == "kind":
                self.kinds[Kind(*rest.split(":"))] += int(count)
                total += int(count)
        return total


def kind_field(kind: Kind) -> str:
    return f"kind:{':'.join(kind)}"


def address_field(address: str) -> str:
    return f"from:{address}"
