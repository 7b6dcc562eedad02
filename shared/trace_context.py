"""W3C trace context: taken in with a webhook call, passed on to the model.

https://www.w3.org/TR/trace-context/. We record no spans: whoever traces us sees the model's call as
a child of the webhook's, under a span id of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
MAX_STATE_CHARS = 512  #: what everybody should pass on; more is not passed on at all
MAX_STATE_MEMBERS = 32
PADDING = "0" * 8  #: makes a W3C trace id of one of ours

_SAMPLED = 1  #: the one flag of version 00; others must be sent as 0
_HEX_ID = r"(?!0+\b)[0-9a-f]"
_PARENT = re.compile(
    rf"(?!ff)([0-9a-f]{{2}})-({_HEX_ID}{{32}})-({_HEX_ID}{{16}})-([0-9a-f]{{2}})(-[ -~]*)?"
)
_KEY = r"[a-z0-9][a-z0-9_*/@-]{0,255}"
_VALUE = r"[ -+\--<>-~]{0,255}[!-+\--<>-~]"  # printable, no comma, no "=", no space at its end
_MEMBER = re.compile(rf"({_KEY})={_VALUE}")


@dataclass(frozen=True, slots=True)
class Trace:
    """What a call of the model tells of the event it is made for.

    id: the event's own, 24 hex digits. parent, state: the caller's headers, as `read_parent` and
    `read_state` gave them; empty where there were none.
    """

    id: str
    parent: str = ""
    state: str = ""

    @property
    def w3c_id(self) -> str:
        """32 hex digits: the caller's trace id, else ours, filled with zeros on the left.

        https://www.w3.org/TR/trace-context-2/#interoperating-with-existing-systems-which-use-shorter-identifiers
        """
        return self.parent[3:35] or PADDING + self.id

    def headers(self, span_id: str) -> dict[str, str]:
        """The headers of one call. span_id: a new one, 16 hex digits.

        A trace that began here is marked as not sampled, as the W3C asks of those who don't record.
        """
        flags = self.parent[53:55] or "00"
        headers = {"X-Trace-Id": self.id, TRACEPARENT: f"00-{self.w3c_id}-{span_id}-{flags}"}
        if self.state:
            headers[TRACESTATE] = self.state
        return headers


def read_parent(values: Sequence[str]) -> str:
    """The one `traceparent` in its form of version 00; "" when there is none that is valid.

    Later versions are read as version 00 says: their first four fields.
    """
    found = _PARENT.fullmatch(values[0]) if len(values) == 1 else None
    if found is None or (found[1] == "00" and found[5] is not None):
        return ""
    return f"00-{found[2]}-{found[3]}-{int(found[4], 16) & _SAMPLED:02x}"


def read_state(values: Sequence[str]) -> str:
    """All `tracestate` headers as one; "" when they are absent, malformed or too long."""
    members = [member.strip(" \t") for member in ",".join(values).split(",")]
    found = [_MEMBER.fullmatch(member) for member in members if member]
    keys = {member[1] for member in found if member is not None}
    state = ",".join(member for member in members if member)
    is_sane = len(keys) == len(found) <= MAX_STATE_MEMBERS and len(state) <= MAX_STATE_CHARS
    return state if is_sane else ""
