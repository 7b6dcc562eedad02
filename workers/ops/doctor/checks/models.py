"""Whether every model that a bot may be answered by answers: a call of one token each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

import redis
from redis.exceptions import RedisError

from shared.config import Settings
from shared.errors import (
    DeadlineError,
    FailedForNowError,
    KeyRefusedError,
    NotSentError,
    PermanentError,
    TaskError,
)
from workers.deadline import Deadline
from workers.keys.order import in_order
from workers.keys.pair import KeyPair
from workers.keys.sources import bearers, own_pairs, ring_store
from workers.keys.verify import Verifier
from workers.ops.doctor.check import together
from workers.ops.doctor.finding import Finding, failed, ok, skipped, warning
from workers.ops.doctor.subject import Subject

TIMEOUT_S = 20.0

_ITS_FAILURE = (
    "look at the provider's status page; a second model in model.chain would answer meanwhile"
)


def look(subject: Subject) -> Iterator[Finding]:
    """One finding for each model that is in a chain."""
    names = _in_chains(subject.settings)
    if not names:
        yield skipped("no model is configured", "set CLAWDBOT_ENDPOINT")
    yield from together([partial(_about, subject, name) for name in names])


def _in_chains(settings: Settings) -> list[str]:
    chains = [settings.chain_of(bot.settings) for bot in settings.all_bots()]
    wanted = dict.fromkeys(name for chain in chains for name in chain)
    return [name for name in wanted or settings.all_models() if name in settings.all_models()]


def _about(subject: Subject, name: str) -> Iterator[Finding]:
    model = subject.settings.all_models()[name]
    with subject.redis() as client:
        pair = _first_pair(subject.settings, name, client)
        if pair is None:
            yield _no_key(name)
            return
        verifier = Verifier(
            model,
            bearers(subject.settings, name, client, subject.http),
            subject.http,
            lambda: Deadline(TIMEOUT_S),
        )
        started = time.monotonic()
        try:
            verifier.verify(pair)
        except TaskError as error:
            yield _failed(name, pair, error)
            return
    yield _answered(name, time.monotonic() - started, subject.settings.task_timeout_s)


def _first_pair(settings: Settings, name: str, client: redis.Redis) -> KeyPair | None:
    """What the next call would use; without Redis what the settings say."""
    own = own_pairs(settings.all_models()[name])
    store = ring_store(settings, name, client)
    try:
        snapshot = store.read()
    except RedisError:
        return next(iter(own), None)
    opened = {entry.sealed: store.open(entry.sealed) for entry in snapshot.ring.live}
    order = in_order(snapshot.ring, opened, own, snapshot.refused, snapshot.now_ms)
    return next(iter(order), None)


def _answered(name: str, took_s: float, patience_s: float) -> Finding:
    seen = f"{name} answered in {took_s * 1000:.0f} ms"
    if took_s < patience_s:
        return ok(seen)
    return warning(
        seen,
        f"Calls without a token for {patience_s:g} s are ended: answers fail and are retried.",
        "raise CLAWDBOT_TASK_TIMEOUT_S, or put a quicker model before it in model.chain",
    )


def _no_key(name: str) -> Finding:
    return failed(
        f"{name} has no key",
        "Every call of it fails; the next model of the chain answers, or nobody does.",
        "set CLAWDBOT_AK_SECRET, or add a key to its ring",
        f"clawdbot keys add --model {name} --stdin",
    )


def _failed(name: str, pair: KeyPair, error: TaskError) -> Finding:
    seen = f"{name}: {error}"
    if isinstance(error, KeyRefusedError):
        return failed(
            f"{seen} (key {pair.id})",
            "The endpoint does not accept the key in use; others are tried after it, if there are.",
            "look which keys still work, and put in one that does",
            f"clawdbot keys verify --model {name}",
            f"clawdbot keys rotate --model {name} --stdin",
        )
    if isinstance(error, NotSentError | DeadlineError):
        return failed(
            seen,
            "The endpoint can't be reached, or keeps silent: messages wait and are retried.",
            "look at the address, DNS, firewall and proxy (HTTPS_PROXY) of this machine",
        )
    if isinstance(error, FailedForNowError):
        return failed(
            seen,
            "The endpoint fails, and wants no other try for now: messages become dead letters.",
            _ITS_FAILURE,
        )
    if isinstance(error, PermanentError):
        return failed(
            seen,
            "The endpoint refuses such calls for good: messages become dead letters.",
            "check CLAWDBOT_ENDPOINT and CLAWDBOT_MODEL__NAME against the provider's page",
        )
    return failed(
        seen,
        "The endpoint fails at the moment: messages are retried for ten minutes.",
        _ITS_FAILURE,
    )
