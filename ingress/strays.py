"""Calls under a platform's webhook path that reach no bot: 404 and 405, noted as other refusals."""

from __future__ import annotations

from typing import NoReturn

from aiohttp import web

from ingress.door import Door
from ingress.metrics import Metrics
from ingress.refusals import Refusal, Refusals
from shared.state.refused import Kind

NO_BOT = "-"  #: in metrics and logs: no bot can have this name


class Strays:
    """Those of one platform. Routes of their own: what a bot's calls cost stays as it is."""

    def __init__(self, platform: str, door: Door, metrics: Metrics, refusals: Refusals) -> None:
        self._platform = platform
        self._door = door
        self._requests = metrics.requests
        self._refusals = refusals

    def add_method(self, router: web.UrlDispatcher, path: str) -> None:
        """Right behind the POST of `path`: whatever else comes there."""
        router.add_route("*", path, self._refuse_method)

    def add_bot(self, router: web.UrlDispatcher) -> None:
        """Behind the routes of all bots: whatever else comes below the platform's path."""
        router.add_route("*", f"/{self._platform}/webhook{{rest:(?s:/.*)?}}", self._refuse_bot)

    async def _refuse_method(self, request: web.Request) -> NoReturn:
        self._note(request, "method")
        raise web.HTTPMethodNotAllowed(request.method, ["POST"])

    async def _refuse_bot(self, request: web.Request) -> NoReturn:
        self._note(request, "no_such_bot")
        raise web.HTTPNotFound

    def _note(self, request: web.Request, reason: str) -> None:
        caller = self._door.caller(request)
        if self._door.refusal(self._platform, caller) is None:  # it has paid for a call
            self._door.refused(caller)
        self._requests.labels(self._platform, NO_BOT, reason).inc()
        self._refusals.note(Refusal.of(Kind(reason, self._platform, NO_BOT), caller, request))
