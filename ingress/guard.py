"""How much one address may ask of this process: a token bucket each.

It stands before the body is read and before anything is verified; the exact limit of the whole
deployment is that of `accept.lua`. A call costs one token, one that is refused ten: who guesses
signatures is slowed down long before who sends honest calls. But many may share an address, such as
all callers behind a proxy that is not in `trusted_proxies`: where an authentic call came from of
late, a refused one costs no more than others.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

BURST_S = 1.0  #: calls that may come at once, in seconds of the rate
REFUSAL_PRICE = 10
PROVED_S = 600.0  #: how long an authentic call speaks for its address
CAPACITY = 10_000  #: addresses remembered, some 3 MB; the one silent for longest goes first


class _Bucket:
    __slots__ = ("at", "proved_until", "tokens")

    def __init__(self, tokens: float, at: float) -> None:
        self.tokens = tokens
        self.at = at
        self.proved_until = at


class Guard:
    """rate: calls/s of one address. clock: monotonic seconds."""

    def __init__(self, rate: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self.renew(rate)

    def renew(self, rate: int) -> None:
        """Another rate, from now on; what is known of the addresses stays."""
        self._rate = rate
        self._burst = max(1.0, rate * BURST_S)
        self._most_owed = max(self._burst, REFUSAL_PRICE)

    def admit(self, group: str) -> float:
        """0: the call may come in, and is paid for. Else: after so many seconds the next may."""
        now = self._clock()
        bucket = self._buckets.get(group)
        if bucket is None:
            bucket = self._add(group, now)
        else:
            self._buckets.move_to_end(group)
        tokens = min(self._burst, bucket.tokens + (now - bucket.at) * self._rate)
        bucket.at = now
        if tokens < 1:
            bucket.tokens = tokens
            return (1 - tokens) / self._rate
        bucket.tokens = tokens - 1
        return 0.0

    def refused(self, group: str) -> None:
        """An admitted call was not authentic, or not readable: it costs more."""
        bucket = self._buckets.get(group)
        if bucket is not None and bucket.proved_until <= bucket.at:
            bucket.tokens = max(bucket.tokens - REFUSAL_PRICE + 1, -self._most_owed)

    def proved(self, group: str) -> None:
        """An admitted call was authentic."""
        bucket = self._buckets.get(group)
        if bucket is not None:
            bucket.proved_until = bucket.at + PROVED_S

    def _add(self, group: str, now: float) -> _Bucket:
        if len(self._buckets) >= CAPACITY:
            self._buckets.popitem(last=False)
        bucket = self._buckets[group] = _Bucket(self._burst, now)
        return bucket
