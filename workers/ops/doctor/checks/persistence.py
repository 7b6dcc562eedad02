"""Whether Redis still has tomorrow what it was told today."""

from __future__ import annotations

from collections.abc import Iterator

from redis.exceptions import ResponseError

from workers.ops.doctor.finding import Finding, failed, ok, skipped, warning
from workers.ops.doctor.subject import Subject


def look(subject: Subject) -> Iterator[Finding]:
    """The append-only file: is there one, how often is it synced, did the last write work."""
    with subject.redis() as client:
        info = client.info("persistence")
        try:
            sync = client.config_get("appendfsync").get("appendfsync", "")
        except ResponseError:  # managed servers forbid CONFIG
            sync = ""
    if not info.get("aof_enabled"):
        yield _no_file()
        return
    yield _sync(sync)
    if info.get("aof_last_write_status", "ok") != "ok":
        yield failed(
            "the last write to the append-only file failed",
            "Redis refuses to write until the disk takes it again: webhooks are answered 503.",
            "make room on Redis's disk, and look at its log",
            "df -h",
        )


def _no_file() -> Finding:
    return failed(
        "there is no append-only file",
        "A restart or crash of Redis loses acknowledged messages, up to all of them.",
        "set appendonly yes and appendfsync always, in its configuration file, too",
        "redis-cli config set appendonly yes",
        "redis-cli config set appendfsync always",
        "redis-cli config rewrite",
    )


def _sync(sync: str) -> Finding:
    if sync == "always":
        return ok("append-only file, synced before every answer")
    if not sync:
        return skipped(
            "append-only file; how often it is synced is not told (CONFIG is forbidden)",
            "look at the provider's page: appendfsync should be always",
        )
    lost = "the last 2 s" if sync == "everysec" else "the last half minute or more"
    return warning(
        f"append-only file, appendfsync is {sync}",
        f"A crash of Redis may lose {lost} of acknowledged messages.",
        "set appendfsync always (measured: about a tenth slower)",
        "redis-cli config set appendfsync always",
        "redis-cli config rewrite",
    )
