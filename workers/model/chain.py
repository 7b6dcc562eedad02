"""The models, and a bot's chain of them: the first that can answer does.

One deadline holds for the whole chain. A model that stalls uses it up; the next attempt then begins
with the one behind it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from shared.errors import BreakerOpenError, BusyError, PermanentError, TaskError, TransientError
from shared.trace_context import Trace
from workers.deadline import Deadline
from workers.model.chat import Answer, OnText
from workers.model.endpoint import ChatMessages, Endpoint

#: Of the stall budget; the rest is for the call.
SLOT_WAIT_SHARE = 0.5

#: What another model must not be asked after: the filter's decision stands.
_FINAL_CODES = frozenset({"model:content_filter"})

logger = logging.getLogger(__name__)


class Models:
    """All models, by name. Thread-safe."""

    def __init__(self, endpoints: Mapping[str, Endpoint]) -> None:
        self._endpoints = endpoints

    def answer(
        self,
        chain: Sequence[str],
        messages: ChatMessages,
        deadline: Deadline,
        trace: Trace,
        *,
        attempt: int = 1,
        on_text: OnText = None,
    ) -> Answer:
        """Ask the models of `chain` until one answers; attempt number `attempt` of the message.

        on_text: as in `Endpoint.answer`.

        Raises:
            BusyError: nobody could, and one has no slot free
            TaskError: none did; of their errors the one that gives most hope
        """
        failures: list[TaskError] = []
        busy: Endpoint | None = None
        for endpoint in self._in_turn(chain, attempt):
            try:
                return endpoint.answer(messages, deadline, trace, on_text=on_text)
            except BusyError:
                busy = busy or endpoint
            except TaskError as error:
                failures.append(error)
                if error.code in _FINAL_CODES or deadline.expired:
                    raise _most_hopeful(failures) from None
                _log(endpoint, error)
        if busy is not None:  # nobody else can: then a slot is worth waiting for
            wait_s = deadline.remaining() * SLOT_WAIT_SHARE
            return busy.answer(messages, deadline, trace, on_text=on_text, slot_wait_s=wait_s)
        raise _most_hopeful(failures)

    def _in_turn(self, chain: Sequence[str], attempt: int) -> list[Endpoint]:
        known = [self._endpoints[name] for name in chain if name in self._endpoints]
        if not known:
            raise PermanentError("model:none", "no model is configured: set CLAWDBOT_ENDPOINT")
        first = (attempt - 1) % len(known)
        return known[first:] + known[:first]


def _log(endpoint: Endpoint, error: TaskError) -> None:
    if isinstance(error, BreakerOpenError):  # said once, when it opened
        return
    metadata = {"model": endpoint.name, "error": str(error)}
    logger.warning("model.failed", extra={"metadata": metadata})


def _most_hopeful(failures: Sequence[TaskError]) -> TaskError:
    """One that may be gone soonest, if there is any; else the preferred model's."""
    if failures[-1].code in _FINAL_CODES:
        return failures[-1]
    transient = [error for error in failures if isinstance(error, TransientError)]
    return min(transient, key=lambda error: error.retry_after_s, default=failures[0])
