"""Stage two: reply → route → platform, one part at a time, each settled on its own."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError

from shared.config import Settings
from shared.errors import (
    OutcomeUnknownError,
    PermanentError,
    RouteExpiredError,
    TaskError,
    TokenRejectedError,
    TransientError,
)
from shared.logs import log
from shared.messages import Delivered, Event, Part, Reply, Route, Token
from workers import notices, reasons
from workers.app_secrets import fetch_token
from workers.bots import Bots, WorkerBot
from workers.claim import Claim, GoOn
from workers.client import HttpClient
from workers.deadline import Deadline
from workers.metrics import Metrics
from workers.store import Lanes
from workers.tokens import CachedToken

SETTLE_MARGIN_S = 0.5  #: what a push leaves of `task_timeout_s` for recording its outcome
NOWHERE = Route("dry_run", needs_token=False)  #: a rehearsal's reply is settled without a send
KEY_MARGIN_S = 300  #: an idempotency key is trusted for this much less than the platform says

logger = logging.getLogger(__name__)


class Push:
    """Delivers the next part of a reply or notice."""

    def __init__(
        self,
        settings: Settings,
        lanes: Lanes,
        bots: Bots,
        client: HttpClient,
        metrics: Metrics,
    ) -> None:
        self._budget_s = settings.task_timeout_s - SETTLE_MARGIN_S
        self._lanes = lanes
        self._bots = bots
        self._client = client
        self._metrics = metrics

    def work(self, claim: Claim, go_on: Callable[[], GoOn]) -> Claim | None:
        """Send one part within one deadline (token, fallback and POST together) and settle it.

        See `Stage.work`.

        Raises:
            TaskError: the attempt failed.
            ClaimLostError: somebody else has the head now.
        """
        started = time.monotonic()
        if claim.is_working_notice and claim.attempt > 1:
            raise PermanentError("notice:once", "it was perhaps sent; it is never sent again")
        bot = self._bots.of(claim)
        event = bot.event(claim.record)
        reply, index = _next_part(claim, event)
        part = Part(
            reply.parts[index],
            reply.key(event.trace_id, index),
            event.reply_address,
            event.reply_secret,
        )
        if bot.rehearses(event):
            route, delivered = NOWHERE, Delivered()
        else:
            route, delivered = self._deliver(claim, bot, event, part)
        following = self._lanes.settle(
            claim, next_part=index + 1, parts=len(reply.parts), route=route.name, go_on=go_on()
        )
        if index + 1 == len(reply.parts) and not claim.is_notice:
            waited_ms = claim.now_ms - int(claim.record.get("accepted", claim.now_ms))
            self._metrics.delivered(bot, waited_ms / 1000 + time.monotonic() - started)
        metadata: dict[str, Any] = {
            "attempt": claim.attempt,
            "kind": reply.kind,
            "part": index + 1,
            "parts": len(reply.parts),
            "route": route.name,
            "receipt": delivered.receipt,
        }
        log(logger, logging.INFO, "delivery.settled", **metadata)
        return following

    def notice(self, claim: Claim, error: Exception) -> Reply | None:
        """What the person reads when the answer did not get through."""
        event = self._bots.of(claim).event(claim.record)
        return notices.undelivered(event.text, event.trace_id, reasons.undelivered(error))

    def _deliver(
        self, claim: Claim, bot: WorkerBot, event: Event, part: Part
    ) -> tuple[Route, Delivered]:
        deadline = Deadline(total_s=self._budget_s - claim.waited_s)
        now = claim.now_ms / 1000
        for route in bot.outbound.routes(event.reply_address, event.reply_secret, now=now):
            self._check_unsure(claim, bot, route)
            try:
                return route, self._measured_send(bot, route, part, deadline)
            except RouteExpiredError as error:
                metadata = {"route": route.name, "code": error.code}
                logger.info("route.expired", extra={"metadata": metadata})
            except OutcomeUnknownError as error:
                if not route.idempotent_s and bot.settings.uncertain_send == "hold":
                    raise _held(route) from error
                raise
        raise PermanentError("push:no_route", "no way to this conversation is open any more")

    def _check_unsure(self, claim: Claim, bot: WorkerBot, route: Route) -> None:
        if claim.unsure_ms is None:
            return
        trusted_ms = (route.idempotent_s - KEY_MARGIN_S) * 1000
        if claim.now_ms - claim.unsure_ms < trusted_ms:
            return
        self._lanes.count(bot.keys, "uncertain")
        if bot.settings.uncertain_send == "hold":
            raise _held(route)
        logger.warning("delivery.repeated_uncertain", extra={"metadata": {"route": route.name}})

    def _measured_send(
        self, bot: WorkerBot, route: Route, part: Part, deadline: Deadline
    ) -> Delivered:
        started = time.monotonic()
        try:
            delivered = self._send(bot, route, part, deadline)
        except TaskError as error:
            self._metrics.sent(bot, route.name, error, time.monotonic() - started)
            raise
        self._metrics.sent(bot, route.name, None, time.monotonic() - started)
        return delivered

    def _send(self, bot: WorkerBot, route: Route, part: Part, deadline: Deadline) -> Delivered:
        if not route.needs_token:
            response = self._client.send(bot.outbound.reply_request(route, part, ""), deadline)
            return bot.outbound.read_reply(route, response)
        try:
            return self._send_with_token(bot, route, part, deadline)
        except TokenRejectedError:
            return self._send_with_token(bot, route, part, deadline)

    def _send_with_token(
        self, bot: WorkerBot, route: Route, part: Part, deadline: Deadline
    ) -> Delivered:
        token = self._token(bot, deadline)
        request = bot.outbound.reply_request(route, part, token.value)
        try:
            return bot.outbound.read_reply(route, self._client.send(request, deadline))
        except TokenRejectedError:
            with suppress(RedisError):  # the send certainly didn't happen: that is what is recorded
                bot.tokens.drop(token.version)
            raise

    def _token(self, bot: WorkerBot, deadline: Deadline) -> CachedToken:
        try:
            return bot.token(lambda: self._fetch_token(bot, deadline), deadline.remaining)
        except RedisError as error:  # nothing was sent: the head is given back for a retry
            raise TransientError("token:redis", type(error).__name__) from error

    def _fetch_token(self, bot: WorkerBot, deadline: Deadline) -> Token:
        try:
            fetched = fetch_token(bot.outbound, lambda r: self._client.send(r, deadline))
        except OutcomeUnknownError as error:  # nothing was sent to a person
            raise TransientError(f"token:{error.code}", error.detail) from error
        for position, refusal in enumerate(fetched.refusals, 1):
            metadata = {"bot": bot.name, "position": position, "code": refusal.code}
            logger.warning("secret.refused", extra={"metadata": metadata})
        return fetched.token


def _next_part(claim: Claim, event: Event) -> tuple[Reply, int]:
    if claim.is_working_notice:
        return notices.working(event.text), 0
    wire, part = ("notice", "notice_part") if claim.is_notice else ("reply", "next_part")
    return Reply.from_wire(claim.record[wire]), int(claim.record.get(part, 0))


def _held(route: Route) -> PermanentError:
    return PermanentError(
        "uncertain_send",
        f"a send by {route.name} may have arrived; uncertain_send=hold leaves it to a person",
    )
