"""How full Redis is, and what it does when it is full."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from workers.ops.doctor.finding import Finding, failed, ok, warning
from workers.ops.doctor.subject import Subject

REFUSED_ABOVE = 0.8  #: as the ingress has it (ingress/memory.py)
WARN_ABOVE = 0.6


def look(subject: Subject) -> Iterator[Finding]:
    """Use against maxmemory, and the eviction policy."""
    with subject.redis() as client:
        info = client.info("memory")
    yield _policy(str(info.get("maxmemory_policy", "")))
    yield _use(info)


def _policy(policy: str) -> Finding:
    if policy == "noeviction":
        return ok("maxmemory-policy is noeviction")
    return failed(
        f"maxmemory-policy is {policy or 'not told'}",
        "A full Redis throws away unfinished messages, keys and history as if they were a cache.",
        "set maxmemory-policy noeviction",
        "redis-cli config set maxmemory-policy noeviction",
        "redis-cli config rewrite",
    )


def _use(info: Mapping[str, Any]) -> Finding:
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if not most:
        return warning(
            f"{_mib(used)} used, maxmemory is not set",
            "Nothing stops Redis before the machine's memory is used up and it is killed.",
            "set maxmemory to what the machine can spare, for instance half of it",
            "redis-cli config set maxmemory 1gb",
            "redis-cli config rewrite",
        )
    share = used / most
    seen = f"{_mib(used)} of {_mib(most)} used ({share:.0%})"
    if share < WARN_ABOVE:
        return ok(seen)
    more = ("clawdbot queue", "redis-cli config set maxmemory …", "clawdbot dead list")
    cure = "raise maxmemory, start workers if messages wait, drop old dead letters"
    if share < REFUSED_ABOVE:
        return warning(seen, "Above 80 % new messages are refused with 503.", cure, *more)
    means = "New messages are refused with 503 until the workers have made room."
    return failed(seen, means, cure, *more)


def _mib(count: int) -> str:
    return f"{count / 2**20:,.0f} MiB"
