"""HTTP without sockets: what the pure platform rooms read and return.

Addresses, headers and bodies hold tokens and signatures: they don't show in a repr.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

JSON_UTF8 = "application/json; charset=utf-8"

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class RawRequest:
    """A webhook call exactly as it came in. `headers` is asked by lower-case names."""

    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request for `workers.client` to send. Redirects are never followed."""

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)

    @classmethod
    def post_json(
        cls, url: str, value: Any, headers: Mapping[str, str] | None = None
    ) -> HttpRequest:
        body = _encode(value).encode()
        return cls("POST", url, {"Content-Type": JSON_UTF8, **(headers or {})}, body)


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A whole answer. `headers` has lower-case names."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    def json_object(self) -> dict[str, Any]:
        """The body as a JSON object; an empty dict when it is anything else."""
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}
