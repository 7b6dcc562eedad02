"""Redis: reachable, a version that has what the scripts need, quick enough, enough replicas."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import redis
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    RedisError,
    ResponseError,
    TimeoutError,
)

from shared.config.groups import Redis
from shared.state import keys
from workers.ops.doctor.finding import Finding, failed, ok, warning
from workers.ops.doctor.subject import Subject

LEAST_REDIS, LEAST_VALKEY = (7, 0), (7, 2)  #: `#!lua flags=…`
SAMPLES = 20
SLOW_MS = 20.0  #: a message takes six calls


def look(subject: Subject) -> Iterator[Finding]:
    """Stops at what makes the rest pointless."""
    where = address_of(subject.settings.redis)
    with subject.redis() as client:
        try:
            info = client.info()
        except RedisError as error:
            yield _away(where, error)
            return
        yield _version(info)
        if info.get("cluster_enabled"):
            yield _cluster()
        yield _replicas(info, subject.settings.redis.wait_replicas)
        try:
            yield _speed(client)
        except ResponseError as error:  # full, a replica, its disk is full, too few replicas
            yield _refuses(error)
        except RedisError as error:  # cut in between
            yield _away(where, error)


def address_of(settings: Redis) -> str:
    """Where it is, without user and password."""
    if settings.sentinels is not None:
        nodes = ", ".join(f"{host}:{port}" for host, port in settings.sentinels.nodes)
        return f"{settings.master_name} of the sentinels {nodes}"
    url = urlsplit(settings.client_url)
    return f"{url.hostname}:{url.port or 6379}" if url.hostname else url.path


def _away(where: str, error: RedisError) -> Finding:
    if isinstance(error, BusyLoadingError):
        return _loading(where)
    causes: Mapping[type[Exception], str] = {
        AuthenticationError: "the password in CLAWDBOT_REDIS__URL is not the server's",
        TimeoutError: "it is frozen, overloaded, or a firewall swallows what is sent",
    }
    cause = next(
        (text for kind, text in causes.items() if isinstance(error, kind)),
        "it is not started, or CLAWDBOT_REDIS__URL names another place",
    )
    return failed(
        f"{where} can't be used ({type(error).__name__}): {cause}",
        "Nothing can be recorded: webhooks are answered 503, and the workers wait.",
        "start Redis or correct CLAWDBOT_REDIS__URL; what was acknowledged is in its append-only "
        "file",
        'redis-cli -u "$CLAWDBOT_REDIS__URL" ping',
        "systemctl status redis",
    )


def _loading(where: str) -> Finding:
    return failed(
        f"{where} is loading its file",
        "Nothing can be recorded until it has: webhooks are answered 503, and the workers wait.",
        "wait: what was acknowledged is in that file",
        "redis-cli info persistence",
    )


def _version(info: Mapping[str, Any]) -> Finding:
    is_valkey = "valkey_version" in info
    name, least = ("Valkey", LEAST_VALKEY) if is_valkey else ("Redis", LEAST_REDIS)
    version = str(info.get("valkey_version" if is_valkey else "redis_version", "0"))
    if tuple(map(int, re.findall(r"\d+", version)[:2])) >= least:
        return ok(f"{name} {version}")
    needed = ".".join(map(str, least))
    return failed(
        f"{name} {version} is older than {needed}",
        "The scripts that record and settle messages don't run on it.",
        f"upgrade it to {name} {needed} or later",
    )


def _cluster() -> Finding:
    return failed(
        "it is a Redis Cluster",
        "Celery's transport and the scripts need all keys on one server.",
        "use a single server, or a primary with replicas and Sentinel",
    )


def _replicas(info: Mapping[str, Any], wanted: int) -> Finding:
    has, role = int(info.get("connected_slaves", 0)), info.get("role")
    if role != "master":
        return failed(
            "it is a replica",
            "It takes no writes: webhooks are answered 503.",
            "name the primary in CLAWDBOT_REDIS__URL, or the sentinels that know it",
        )
    if has < wanted:
        return failed(
            f"replicas connected: {has}; CLAWDBOT_REDIS__WAIT_REPLICAS is {wanted}",
            "Every message is refused with 503 until that many have it.",
            "bring the replicas back, or lower the setting",
        )
    return ok(f"primary, replicas connected: {has}")


def _refuses(error: ResponseError) -> Finding:
    return failed(
        f"it refuses to write ({type(error).__name__})",
        "Nothing can be recorded: webhooks are answered 503.",
        "see the checks memory and persistence, and Redis's log",
        "redis-cli info persistence",
    )


def _speed(client: redis.Redis) -> Finding:
    ping_ms = _median_ms(client.ping)
    write_ms = _median_ms(lambda: client.set(keys.PROBE, 1, px=1000))
    seen = f"a call takes {ping_ms:.2f} ms, a write {write_ms:.2f} ms (medians of {SAMPLES})"
    if max(ping_ms, write_ms) < SLOW_MS:
        return ok(seen)
    return warning(
        seen,
        "A message takes about six calls one after the other; each waits that long.",
        "put Redis near the workers, on a disk that is quick to sync, without neighbours",
        "redis-cli --latency-history",
        "redis-cli slowlog get 10",
    )


def _median_ms(call: Callable[[], object]) -> float:
    taken = []
    for _ in range(SAMPLES):
        started = time.perf_counter()
        call()
        taken.append((time.perf_counter() - started) * 1000)
    return statistics.median(taken)
