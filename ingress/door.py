"""Who comes in, and how often: asked by the webhooks before they read anything of a call."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from ingress.addresses import Addresses, Caller
from ingress.guard import Guard
from shared.config.groups import Security
from shared.networks import Networks
from shared.platforms import PLATFORMS


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """Why a call is turned away, as logs and metrics name it. retry_after_s: 0 for never."""

    reason: str
    status: int
    retry_after_s: int = 0


NOT_LISTED = TurnedAway("address", 403)
SHUT = TurnedAway("not_ready", 503, 2)


class Door:
    """Keeps to the settings in force, which may change at any time."""

    def __init__(
        self,
        settings: Callable[[], Security],
        guard: Guard | None = None,
        *,
        is_open: Callable[[], bool] = lambda: True,
    ) -> None:
        """settings: asked at each call; the same object as long as nothing changed.

        is_open: likewise asked. While it is not, nobody is let in: who may come isn't known yet.
        """
        self._settings = settings
        self._is_open = is_open
        self._guard = guard or Guard(settings().calls_per_address)
        self._renew(settings())

    def _renew(self, security: Security) -> None:
        """Other lists and another rate, from the next call on."""
        self._security = security
        self._addresses = Addresses(Networks(security.trusted_proxies))
        lists = {name: Networks(security.allow_cidrs.of(name)) for name in PLATFORMS}
        self._lists = {name: networks for name, networks in lists.items() if networks}
        self._guard.renew(security.calls_per_address)

    def caller(self, request: web.BaseRequest) -> Caller:
        """Who sent it."""
        if (security := self._settings()) is not self._security:
            self._renew(security)
        return self._addresses.of(request)

    def trusts(self, caller: Caller) -> bool:
        """Whether it is a proxy for others."""
        return self._addresses.trusts(caller)

    def refusal(self, platform: str, caller: Caller) -> TurnedAway | None:
        """Why `caller` may not call a webhook of `platform` now; None: it may."""
        if not self._is_open():
            return SHUT
        allowed = self._lists.get(platform)
        if allowed is not None and (caller.address is None or caller.address not in allowed):
            return NOT_LISTED
        wait_s = self._guard.admit(caller.group)
        return TurnedAway("address_limited", 429, math.ceil(wait_s)) if wait_s else None

    def refused(self, caller: Caller) -> None:
        """A call that was let in turned out to be nobody's, or unreadable."""
        self._guard.refused(caller.group)

    def charge(self, caller: Caller) -> None:
        """A call for no platform that nobody could read: it pays as a refused one, if it can."""
        if not self._guard.admit(caller.group):
            self._guard.refused(caller.group)

    def proved(self, caller: Caller) -> None:
        """A call that was let in turned out to be the platform's."""
        self._guard.proved(caller.group)


#: Where the application keeps it.
DOOR: web.AppKey[Door] = web.AppKey("door", Door)
