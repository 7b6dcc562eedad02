"""POST /{platform}/webhook[/{bot}]: let in → read → receive → accept → answer.

| what | answer |
|---|---|
| recorded, a duplicate, or authentic but not for us | 200 |
| from an address that is not in the platform's list | 403 |
| not authentic | 401 |
| unreadable, or its caller hung up | 400 |
| to no bot, or not a POST (strays.py) | 404, 405 |
| body over 1 MiB, or slower than 5 s | 413, 408 |
| over the QPS limit, or its address is over its own | 429 |
| Redis can't record it, or a queue is full | 503 |
| before the configuration centre was read (door.py) | 503 |

DingTalk with `busy_reply`: 200 and a sentence instead of 429 and 503, but only where the event was
certainly not recorded. Where Redis's answer is missing, it may be: it would be answered after
"not taken", and a second time when the person sends it again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping

from aiohttp import web

from ingress.acknowledgement import acknowledge
from ingress.addresses import Caller
from ingress.bots import IngressBot
from ingress.connections import STRANGERS_FAULTS
from ingress.door import Door, TurnedAway
from ingress.explanations import explain
from ingress.inbox import Inbox
from ingress.memory import MemoryWatch
from ingress.metrics import Meter
from ingress.patience import within
from ingress.refusals import Refusal, Refusals
from ingress.trace_headers import traced
from shared.errors import NotRecordedError, RequestRejectedError, StateUnavailableError
from shared.http_values import RawRequest
from shared.logs import Line, bind_trace
from shared.messages import Challenge, Event, Ignored
from shared.state.refused import Kind

BODY_TIMEOUT_S = 5.0
#: Requests being verified and recorded. In a burst the others wait their turn here, so that the
#: event loop gets back to Redis's answers soon.
MAX_AT_ONCE = 512
RETRY_AFTER_S = {429: "1", 503: "2"}
STATUS: Mapping[str, int] = {
    "accepted": 200,
    "duplicate": 200,
    "rate_limited": 429,
    "queue_full": 503,
    "conversation_full": 503,
    "redis_full": 503,
    "unavailable": 503,
}

logger = logging.getLogger(__name__)

Answer = tuple[str, web.StreamResponse]  #: what became of the call, as the metrics name it


class Webhook:
    """Answers one bot's calls in milliseconds and decides nothing."""

    def __init__(
        self,
        bot: IngressBot,
        door: Door,
        inbox: Inbox,
        memory: MemoryWatch,
        meter: Meter,
        turns: asyncio.Semaphore,
        refusals: Refusals,
        *,
        log_content: bool = False,
    ) -> None:
        """turns: `MAX_AT_ONCE` of them, shared by all bots."""
        self._bot = bot
        self._door = door
        self._inbox = inbox
        self._memory = memory
        self._meter = meter
        self._turns = turns
        self._refusals = refusals
        self._log_content = log_content
        self._names = {"platform": bot.platform, "bot": bot.name}
        self._lines: dict[str, Line] = {}  #: of "event.received", by outcome

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One call. The bot comes from the route, never from the body."""
        started = time.monotonic()
        caller = self._door.caller(request)
        turned_away = self._door.refusal(self._bot.platform, caller)
        if turned_away is None:
            outcome, response = await self._answer(request, caller)
        else:
            outcome, response = _turn_away(turned_away)
        self._meter.count(outcome, time.monotonic() - started)
        if response.status >= 400 or STATUS.get(outcome, 200) != 200:  # also behind a busy reply
            self._note_refusal(request, caller, outcome)
        return response

    def _note_refusal(self, request: web.Request, caller: Caller, reason: str) -> None:
        kind = Kind(reason, self._bot.platform, self._bot.name)
        self._refusals.note(Refusal.of(kind, caller, request))

    async def _answer(self, request: web.Request, caller: Caller) -> Answer:
        try:
            body = await _read_body(request)
        except TimeoutError:
            self._door.refused(caller)
            return "slow_body", _closing(408, "slow_body")
        except web.HTTPRequestEntityTooLarge:
            self._door.refused(caller)
            return "too_large", _closing(413, "too_large")
        except OSError:  # reset, unreachable: whatever ended the connection
            self._door.refused(caller)
            return "hung_up", _closing(400, "hung_up")  # nobody is there to read it
        except STRANGERS_FAULTS:
            self._door.refused(caller)
            return "bad_http", _closing(400, "bad_http")
        async with self._turns:
            received = self._receive(request, caller, body)
            if not isinstance(received, Event):
                return received
            if received.by_old_secret:
                self._meter.count_old_secret()
            return await self._accept(request, traced(received, request))

    def _receive(self, request: web.Request, caller: Caller, body: bytes) -> Event | Answer:
        """The event to record, or what is answered at once."""
        try:
            return self._read(caller, RawRequest(request.headers, body), time.time())
        except Exception as error:  # a room's bug must not become a 500 that a stranger can cause
            self._door.refused(caller)
            logger.error("webhook.bug", extra={"metadata": {"error": type(error).__name__}})
            return "bug", web.json_response({"error": "unreadable"}, status=400)

    def _read(self, caller: Caller, raw: RawRequest, now: float) -> Event | Answer:
        try:
            received = self._bot.inbound.receive(raw, now=now)
        except RequestRejectedError as error:
            self._door.refused(caller)
            explain(self._bot, raw, now=now)
            return error.reason, web.json_response({"error": error.reason}, status=error.status)
        self._door.proved(caller)
        if isinstance(received, Challenge):
            return "challenge", web.json_response(dict(received.body))
        if isinstance(received, Ignored):
            return received.reason, _nothing()
        return received

    async def _accept(self, request: web.Request, event: Event) -> Answer:
        outcome: str
        is_lost = True
        if self._memory.is_full:
            outcome = "redis_full"
        else:
            try:
                outcome = await self._inbox.accept(self._bot, event)
            except StateUnavailableError as error:
                self._log_outage(event, error)
                outcome, is_lost = "unavailable", isinstance(error, NotRecordedError)
        self._log_received(event, outcome)
        status = STATUS[outcome]
        if status == 200:
            return outcome, acknowledge(request, event.trace_id)
        return outcome, self._refuse(status, outcome, event.trace_id, is_lost=is_lost)

    def _refuse(self, status: int, outcome: str, trace_id: str, *, is_lost: bool) -> web.Response:
        """is_lost: the event was certainly not recorded."""
        headers = {"X-Trace-Id": trace_id}
        wants_busy = is_lost and self._bot.settings.busy_reply
        if wants_busy and (busy := self._bot.inbound.busy_answer()) is not None:
            return web.json_response(dict(busy), headers=headers)
        headers["Retry-After"] = RETRY_AFTER_S[status]
        return web.json_response({"error": outcome}, status=status, headers=headers)

    def _log_received(self, event: Event, outcome: str) -> None:
        if self._log_content or event.traceparent:
            facts = {**self._names, "outcome": outcome}
            if self._log_content:
                facts["text"] = event.text
            if event.traceparent:
                facts["w3c_trace_id"] = event.trace.w3c_id
            with bind_trace(event.trace_id):
                logger.info("event.received", extra={"metadata": facts})
            return
        line = self._lines.get(outcome)
        if line is None:
            line = Line(logger, logging.INFO, "event.received", **self._names, outcome=outcome)
            self._lines[outcome] = line
        line.log(event.trace_id)

    def _log_outage(self, event: Event, error: StateUnavailableError) -> None:
        facts = {**self._names, "error": str(error)}
        with bind_trace(event.trace_id):
            logger.error("event.not_recorded", extra={"metadata": facts})


async def _read_body(request: web.Request) -> bytes:
    content = request.content
    if content.is_eof() and content.total_bytes <= request.client_max_size:
        return content.read_nowait()  # it came with the headers, as almost always
    return await within(BODY_TIMEOUT_S, request.read())


def _nothing() -> web.Response:
    return web.Response(body=b"{}", content_type="application/json")


def _turn_away(why: TurnedAway) -> Answer:
    """Nothing of the body was read, and nothing is: the connection ends."""
    response = _closing(why.status, why.reason)
    if why.retry_after_s:
        response.headers["Retry-After"] = str(why.retry_after_s)
    return why.reason, response


def _closing(status: int, error: str) -> web.Response:
    response = web.json_response({"error": error}, status=status)
    response.force_close()
    return response
