"""One model with all that stands around a call of it: breaker, slots, keys."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

from redis.exceptions import RedisError

from shared.errors import (
    BusyError,
    DeadlineError,
    FailedForNowError,
    KeyRefusedError,
    NoKeyError,
    PermanentError,
    TaskError,
    TransientError,
)
from shared.trace_context import Trace
from workers.deadline import Deadline
from workers.metrics import Metrics
from workers.model.breaker import Breaker
from workers.model.chat import Answer, Model, OnText
from workers.model.keys import KeySource, ModelKey
from workers.model.slots import Slots

#: Of the stall budget: a model that had less, because another of the chain used the time up, has
#: not failed by being silent until its end.
FAIR_SHARE = 0.8

logger = logging.getLogger(__name__)

ChatMessages = list[dict[str, str]]


class Endpoint:
    """`name` is the model's in the settings. Thread-safe."""

    def __init__(
        self,
        name: str,
        model: Model,
        keys: KeySource,
        breaker: Breaker,
        slots: Slots,
        metrics: Metrics,
    ) -> None:
        self.name = name
        self._model = model
        self._keys = keys
        self._breaker = breaker
        self._slots = slots
        self._metrics = metrics

    def answer(
        self,
        messages: ChatMessages,
        deadline: Deadline,
        trace: Trace,
        *,
        on_text: OnText = None,
        slot_wait_s: float = 0.0,
    ) -> Answer:
        """Ask, with the next key when one is refused.

        on_text: as in `Model.answer`. slot_wait_s: how long a slot is waited for.

        Raises:
            BreakerOpenError: it failed too often and was not asked
            BusyError: no slot became free; likewise
            TaskError: as `Model.answer`
        """
        try:
            answer = self._ask(messages, deadline, trace, on_text, slot_wait_s)
        except TaskError as error:
            self._metrics.unanswered(self.name, error)
            raise
        return replace(answer, model=self.name)

    def _ask(
        self,
        messages: ChatMessages,
        deadline: Deadline,
        trace: Trace,
        on_text: OnText,
        slot_wait_s: float,
    ) -> Answer:
        probe = self._breaker.permit()
        try:
            with self._slots.taken(self.name, slot_wait_s):
                if slot_wait_s:
                    deadline.progress()  # the wait for our own slot is not the model's silence
                started = deadline.now()
                answer = self._with_a_key(messages, deadline, trace, on_text)
        except (BusyError, NoKeyError):  # it was not asked
            self._breaker.give_back(probe)
            raise
        except _KeyAwaitedError as error:  # likewise
            self._breaker.give_back(probe)
            raise error.why from error.why.__cause__
        except DeadlineError:
            if deadline.gave(FAIR_SHARE, since=started):
                self._breaker.ended(probe, first_token_s=None)
            else:  # too little time to judge it by: nobody knows more of it than before
                self._breaker.give_back(probe)
            raise
        except (TransientError, FailedForNowError) as error:
            self._breaker.ended(probe, first_token_s=None, asked_s=error.retry_after_s)
            raise
        except PermanentError:  # it was there, and refused; any other error says nothing of it
            self._breaker.ended(probe, first_token_s=0.0)
            raise
        call_s = deadline.now() - started
        self._metrics.answered(self.name, answer, call_s)
        self._breaker.ended(probe, first_token_s=answer.first_token_s or call_s)
        return answer

    def _with_a_key(
        self, messages: ChatMessages, deadline: Deadline, trace: Trace, on_text: OnText
    ) -> Answer:
        refusal: KeyRefusedError | None = None
        for key in self._usable(deadline):
            try:
                return self._model.answer(messages, key.bearer, deadline, trace, on_text)
            except KeyRefusedError as error:
                refusal = error
                metadata = {"model": self.name, "key": key.id, "code": error.code}
                logger.warning("key.refused", extra={"metadata": metadata})
                self._keys.refused(key)
        raise refusal or NoKeyError("model:no_key", f"the model {self.name} has no valid key")

    def _usable(self, deadline: Deadline) -> Iterator[ModelKey]:
        try:
            yield from self._keys.usable(deadline)
        except PermanentError as error:  # the cloud's, that exchanges pairs: no word of the model
            raise NoKeyError(error.code, error.detail) from error
        except TransientError as error:
            raise _KeyAwaitedError(error) from None  # it is raised itself in the end
        except RedisError as error:  # ring and exchanged keys are there; nothing was asked
            raise _KeyAwaitedError(TransientError("keys:redis", type(error).__name__)) from error


class _KeyAwaitedError(Exception):
    """No key can be got now: `why` is an error of the cloud that exchanges pairs, or of Redis."""

    def __init__(self, why: TransientError) -> None:
        super().__init__(why.code)
        self.why = why
