"""Stage one: event → prompt → model → reply, written back before anything is pushed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo

from shared.config import Settings
from shared.errors import TransientError
from shared.logs import log
from shared.messages import Reply
from workers import notices
from workers.bots import Bots
from workers.conversation import prompt, remember
from workers.deadline import Deadline
from workers.model.chain import Models
from workers.model.chat import Answer
from workers.quotas import Quotas, Refusal
from workers.store import Claim, GoOn, Lanes
from workers.usage import Usage, utc_offset_s

logger = logging.getLogger(__name__)


class Process:
    """Answers one event."""

    def __init__(
        self, settings: Settings, lanes: Lanes, bots: Bots, models: Models, quotas: Quotas
    ) -> None:
        self._settings = settings
        self._lanes = lanes
        self._bots = bots
        self._models = models
        self._quotas = quotas
        self._zone = ZoneInfo(settings.timezone)

    def work(self, claim: Claim, go_on: Callable[[], GoOn]) -> Claim | None:
        """Ask the model and write the reply back. See `Stage.work`.

        Raises:
            TaskError: the attempt failed.
            ClaimLostError: somebody else has the head now; nothing was written.
        """
        bot = self._bots.of(claim)
        event = bot.event(claim.record)
        messages = prompt(self._settings.model.system_prompt, claim.history, event.text)
        deadline = self._deadline(claim)
        if refusal := self._quotas.refusal(claim, event, messages):
            return self._reject(claim, event.text, refusal, go_on())
        chain = self._settings.chain_of(bot.settings)
        answer = self._models.answer(chain, messages, deadline, event.trace_id)
        text = answer.text + (notices.cut_mark(event.text) if answer.cut else "")
        parts = bot.outbound.parts(text)
        if not parts:
            raise TransientError("model:empty", "the answer had no visible text")
        usage = Usage.of(event, messages, answer, utc_offset_s(self._zone, claim.now_ms))
        return self._write_back(claim, Reply(parts), event.text, answer, usage, go_on())

    def notice(self, claim: Claim) -> Reply | None:
        """What the person reads when the event finally failed."""
        event = self._bots.of(claim).event(claim.record)
        return notices.failed(event.text, event.trace_id)

    def _deadline(self, claim: Claim) -> Deadline:
        total_s = self._settings.answer_timeout_s - claim.waited_s
        return Deadline(total_s=total_s, stall_s=self._settings.task_timeout_s)

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
        memory = self._settings.conversation
        turns, keep = remember(
            claim.history, text, answer.text, turns=memory.turns, max_bytes=memory.max_bytes
        )
        following = self._lanes.write_back(
            claim, reply, turns, usage=usage, keep=keep, ttl_s=memory.ttl_s, go_on=go_on
        )
        metadata: dict[str, Any] = {
            "attempt": claim.attempt,
            "parts": len(reply.parts),
            "finish_reason": answer.finish_reason,
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
        }
        if self._settings.log.content:
            metadata["text"] = answer.text
        log(logger, logging.INFO, "reply.written", **metadata)
        return following
