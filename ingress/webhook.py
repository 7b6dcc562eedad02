"""POST /{platform}/webhook[/{bot}]: read → receive → accept → answer.

| what | answer |
|---|---|
| recorded, a duplicate, or authentic but not for us | 200 |
| not authentic | 401 |
| unreadable | 400 |
| body over 1 MiB, or slower than 5 s | 413, 408 |
| over the QPS limit | 429 |
| Redis can't record it, or a queue is full | 503 (DingTalk with `busy_reply`: 200 and a sentence) |
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from ingress.bots import IngressBot
from ingress.inbox import Inbox, Outcome
from ingress.memory import MemoryWatch
from ingress.metrics import Metrics
from ingress.patience import within
from shared.errors import RequestRejectedError, StateUnavailableError
from shared.http_values import RawRequest
from shared.logs import bind_trace, log
from shared.messages import Challenge, Event, Ignored

BODY_TIMEOUT_S = 5.0
#: Requests being verified and recorded: two batches. In a burst the others wait their turn here,
#: so that the event loop gets back to Redis's answers soon.
MAX_AT_ONCE = 512
RETRY_AFTER_S = {429: "1", 503: "2"}
STATUS: Mapping[Outcome, int] = {
    "accepted": 200,
    "duplicate": 200,
    "rate_limited": 429,
    "queue_full": 503,
    "conversation_full": 503,
}

logger = logging.getLogger(__name__)


class Webhook:
    """Answers the platforms' calls in milliseconds and decides nothing."""

    def __init__(
        self,
        bots: Mapping[tuple[str, str], IngressBot],
        inbox: Inbox,
        memory: MemoryWatch,
        metrics: Metrics,
        *,
        log_content: bool = False,
    ) -> None:
        self._log_content = log_content
        self._turns = asyncio.Semaphore(MAX_AT_ONCE)
        self._bots = bots
        self._inbox = inbox
        self._memory = memory
        self._metrics = metrics

    async def handle(self, request: web.Request) -> web.Response:
        """One call. The bot comes from the route, never from the body."""
        started = time.monotonic()
        platform = request.match_info["platform"]
        bot = self._bots.get((platform, request.match_info.get("bot", "default")))
        if bot is None:
            raise web.HTTPNotFound
        outcome, response = await self._answer(bot, request)
        self._metrics.requests.labels(platform, bot.name, outcome).inc()
        self._metrics.latency.labels(platform).observe(time.monotonic() - started)
        return response

    async def _answer(self, bot: IngressBot, request: web.Request) -> tuple[str, web.Response]:
        try:
            body = await _read_body(request)
        except TimeoutError:
            return "slow_body", _closing(408, "slow_body")
        except web.HTTPRequestEntityTooLarge:
            return "too_large", _closing(413, "too_large")
        async with self._turns:
            return await self._receive(bot, request, body)

    async def _receive(
        self, bot: IngressBot, request: web.Request, body: bytes
    ) -> tuple[str, web.Response]:
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            received = bot.inbound.receive(RawRequest(headers, body), now=time.time())
        except RequestRejectedError as error:
            _log_refusal(bot, error.reason, request)
            return error.reason, web.json_response({"error": error.reason}, status=error.status)
        except Exception as error:  # a room's bug must not become a 500 that a stranger can cause
            logger.error("webhook.bug", extra={"metadata": {"error": type(error).__name__}})
            return "bug", web.json_response({"error": "unreadable"}, status=400)
        return await self._act(bot, received)

    async def _act(
        self, bot: IngressBot, received: Event | Challenge | Ignored
    ) -> tuple[str, web.Response]:
        if isinstance(received, Challenge):
            return "challenge", web.json_response(dict(received.body))
        if isinstance(received, Ignored):
            return received.reason, _nothing()
        with bind_trace(received.trace_id):
            outcome = await self._accept(bot, received)
            metadata: dict[str, Any] = {
                "platform": bot.platform,
                "bot": bot.name,
                "outcome": outcome,
            }
            if self._log_content:
                metadata["text"] = received.text
            log(logger, logging.INFO, "event.received", **metadata)
        return outcome, _acknowledge(bot, outcome, received.trace_id)

    async def _accept(self, bot: IngressBot, event: Event) -> str:
        if self._memory.is_full:
            return "redis_full"
        try:
            return await self._inbox.accept(bot, event)
        except StateUnavailableError as error:
            metadata = {"platform": bot.platform, "bot": bot.name, "error": str(error)}
            logger.error("event.not_recorded", extra={"metadata": metadata})
            return "unavailable"


async def _read_body(request: web.Request) -> bytes:
    if request.content.is_eof():  # it came with the headers, as almost always
        return await request.read()
    return await within(BODY_TIMEOUT_S, request.read())


def _acknowledge(bot: IngressBot, outcome: str, trace_id: str) -> web.Response:
    status = STATUS.get(outcome, 503)  # type: ignore[call-overload]
    headers = {"X-Trace-Id": trace_id}
    if status == 200:
        return _nothing(headers)
    if bot.settings.busy_reply and (busy := bot.inbound.busy_answer()) is not None:
        return web.json_response(dict(busy), headers=headers)
    headers["Retry-After"] = RETRY_AFTER_S[status]
    return web.json_response({"error": outcome}, status=status, headers=headers)


def _nothing(headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(body=b"{}", headers=headers, content_type="application/json")


def _closing(status: int, error: str) -> web.Response:
    response = web.json_response({"error": error}, status=status)
    response.force_close()
    return response


def _log_refusal(bot: IngressBot, reason: str, request: web.Request) -> None:
    metadata = {
        "platform": bot.platform,
        "bot": bot.name,
        "reason": reason,
        "address": request.remote,
    }
    logger.warning("request.refused", extra={"metadata": metadata})
