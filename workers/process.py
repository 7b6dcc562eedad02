"""Stage one: event → prompt → model → reply, written back before anything is pushed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from threading import Thread
from typing import Any
from zoneinfo import ZoneInfo

from redis.exceptions import RedisError

from shared import rehearsal
from shared.config.groups import Conversation
from shared.config.live import Live
from shared.errors import TransientError
from shared.local_time import utc_offset_s
from shared.logs import log
from shared.messages import Event, Reply
from workers import notices, reasons
from workers.bots import Bots, WorkerBot
from workers.claim import Claim, GoOn
from workers.conversation import ChatMessage, Memory
from workers.deadline import Deadline
from workers.metrics import Metrics
from workers.model.chain import Models
from workers.model.chat import Answer
from workers.model.estimate import counter
from workers.prompt import filled, prompt
from workers.quotas import Quotas, Refusal
from workers.store import Lanes
from workers.usage import Usage

WRITE_BACK_GRACE_S = 5  #: how long after its deadline an answer that had begun is in Redis

logger = logging.getLogger(__name__)


class Process:
    """Answers one event."""

    def __init__(
        self,
        live: Live,
        lanes: Lanes,
        bots: Bots,
        models: Models,
        quotas: Quotas,
        metrics: Metrics,
    ) -> None:
        settings = live.settings
        self._live = live
        self._lanes = lanes
        self._bots = bots
        self._models = models
        self._memory = _memory(settings.conversation)
        self._quotas = quotas
        self._metrics = metrics
        self._zone = ZoneInfo(settings.timezone)

    def work(self, claim: Claim, go_on: Callable[[], GoOn]) -> Claim | None:
        """Ask the model and write the reply back. See `Stage.work`.

        Raises:
            TaskError: the attempt failed.
            ClaimLostError: somebody else has the head now; nothing was written.
        """
        bot = self._bots.of(claim)
        event = bot.event(claim.record)
        if bot.rehearses(event):
            return self._rehearse(claim, go_on())
        messages = self._messages(claim, bot, event)
        deadline = self._deadline(claim)
        if refusal := self._quotas.refusal(claim, event, messages):
            return self._reject(claim, event.text, refusal, go_on())
        answer = self._models.answer(
            self._live.settings.chain_of(bot.settings),
            messages,
            deadline,
            event.trace,
            attempt=claim.attempt,
            on_text=partial(self._has_begun, claim) if bot.settings.notice_after_s else None,
        )
        text = answer.text + (notices.cut_mark(event.text) if answer.cut else "")
        parts = bot.outbound.parts(text)
        if not parts:
            raise TransientError("model:empty", "the answer had no visible text")
        usage = Usage.of(event, messages, answer, utc_offset_s(self._zone, claim.now_ms))
        return self._write_back(claim, Reply(parts), event.text, answer, usage, go_on())

    def notice(self, claim: Claim, error: Exception) -> Reply | None:
        """What the person reads when the event finally failed."""
        event = self._bots.of(claim).event(claim.record)
        return notices.failed(event.text, event.trace_id, reasons.unanswered(error))

    def _rehearse(self, claim: Claim, go_on: GoOn) -> Claim | None:
        """The stage without a model: nothing is used, nothing is remembered."""
        reply = Reply((rehearsal.REPLY,))
        following = self._lanes.write_back(
            claim, reply, [], usage=None, keep=0, ttl_s=0, go_on=go_on
        )
        log(logger, logging.INFO, "rehearsal.written")
        return following

    def _has_begun(self, claim: Claim) -> None:
        """The answer is coming: its person need not be told that it takes longer.

        Not said from here: with a Redis that is silent the stream would run into its deadline.
        """
        Thread(target=self._put_off_notice, args=(claim,), name="notices", daemon=True).start()

    def _put_off_notice(self, claim: Claim) -> None:
        try:
            wait_s = self._live.settings.answer_timeout_s + WRITE_BACK_GRACE_S
            self._lanes.put_off_notice(claim, wait_s)
        except RedisError as error:  # then the person is told for nothing
            metadata = {"error": type(error).__name__}
            logger.warning("notice.not_put_off", extra={"metadata": metadata})

    def _messages(self, claim: Claim, bot: WorkerBot, event: Event) -> list[ChatMessage]:
        template = bot.settings.system_prompt or self._live.settings.model.system_prompt
        system = filled(template, event, claim.now_ms / 1000, self._zone)
        return prompt(system, self._memory.newest(claim.history), event.text)

    def _deadline(self, claim: Claim) -> Deadline:
        total_s = self._live.settings.answer_timeout_s - claim.waited_s
        return Deadline(total_s=total_s, stall_s=self._live.settings.task_timeout_s)

    def _reject(self, claim: Claim, text: str, refusal: Refusal, go_on: GoOn) -> Claim | None:
        notice = notices.over_quota(text, refusal)
        following = self._lanes.reject(claim, str(refusal), notice, go_on=go_on)
        log(logger, logging.INFO, "event.rejected", why=str(refusal), free_s=refusal.free_s)
        return following

    def _write_back(
        self,
        claim: Claim,
        reply: Reply,
        text: str,
        answer: Answer,
        usage: Usage,
        go_on: GoOn,
    ) -> Claim | None:
        turns, keep = self._memory.with_turn(claim.history, text, answer.text)
        conversation = self._live.settings.conversation
        following = self._lanes.write_back(
            claim,
            reply,
            turns,
            usage=usage,
            keep=keep,
            ttl_s=conversation.ttl_s,
            writer_ttl_s=conversation.longest_ttl_s,
            go_on=go_on,
        )
        self._metrics.used(answer.model, usage)
        metadata: dict[str, Any] = {
            "attempt": claim.attempt,
            "parts": len(reply.parts),
            "model": answer.model,
            "finish_reason": answer.finish_reason,
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
        }
        if self._live.settings.log.content:
            metadata["text"] = answer.text
        log(logger, logging.INFO, "reply.written", **metadata)
        return following


def _memory(settings: Conversation) -> Memory:
    return Memory(
        turns=settings.turns,
        max_bytes=settings.max_bytes,
        max_tokens=settings.max_tokens,
        count=counter(settings.tokenizer),
    )
