"""What comes to no route: bytes that are no HTTP, callers that are gone, connections cut off.

Refusals like others: the first of a flood have a line in `auth.log`, all of them are counted. Who
they are from is told by the connection alone: there is no header whose word could be taken.
"""

from __future__ import annotations

from aiohttp import web

from ingress.addresses import Caller
from ingress.door import Door
from ingress.metrics import Metrics
from ingress.refusals import Refusal, Refusals
from ingress.strays import NO_BOT
from shared import metrics as names
from shared.instruments import counter
from shared.state.refused import Kind

NO_PLATFORM = "-"  #: in metrics and logs, as `NO_BOT`
CALLS = ("bad_http", "hung_up")
CUTS = ("slow_header", "answer_not_taken", "too_many")


class Outsiders:
    """Counts and notes them, for all connections of this process."""

    def __init__(self, door: Door, metrics: Metrics, refusals: Refusals) -> None:
        self._door = door
        self._refusals = refusals
        cut = counter(names.INGRESS_CONNECTIONS_CUT, metrics.registry)
        self._cuts = {reason: cut.labels(reason) for reason in CUTS}  # shown from the start, as 0
        self._calls = {
            reason: metrics.requests.labels(NO_PLATFORM, NO_BOT, reason) for reason in CALLS
        }

    def refuse(self, reason: str, peer: Caller) -> None:
        """A call that can't be carried out: it is paid for like one that is not authentic."""
        self._door.charge(peer)
        self._calls[reason].inc()
        self._note(reason, peer)

    def cut(self, reason: str, peer: Caller) -> None:
        """A connection that is ended before its time.

        It pays nothing: connections have a limit of their own, and whoever shares an address with
        a thousand others must not be kept out because a proxy opens connections ahead.
        """
        self._cuts[reason].inc()
        self._note(reason, peer)

    def _note(self, reason: str, peer: Caller) -> None:
        self._refusals.note(Refusal(Kind(reason, NO_PLATFORM, NO_BOT), peer))


#: Where the application keeps them.
OUTSIDERS: web.AppKey[Outsiders] = web.AppKey("outsiders", Outsiders)
