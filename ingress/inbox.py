"""Recording events: one Lua call for all that wait at the same moment.

There is no waiting for more: an event that comes alone goes at once; those that arrive while a
call is under way share the next one. A caller that gives up never cancels the call of the others.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import redis.asyncio

from ingress.bots import IngressBot
from ingress.patience import within
from shared.errors import NotRecordedError, StateUnavailableError
from shared.messages import Event, seen_id
from shared.state import keys
from shared.state.scripts import script

Outcome = Literal["accepted", "duplicate", "rate_limited", "queue_full", "conversation_full"]

DEADLINE_S = 0.8  #: over everything, the client's own repeats included
#: With more, all connections come to wait for the same call, with nothing to read meanwhile: over
#: 64 of them 256 made 2984 events/s, 32 made 3525, 16 (twice as many calls) 2977.
MAX_BATCH_EVENTS = 32
MAX_BATCH_BYTES = 1 << 20
CONVERSATION_CAPACITY = 200  #: unfinished events of one conversation
REPLICA_WAIT_MS = 500


@dataclass(frozen=True, slots=True)
class Limits:
    """What accept refuses. wait_replicas: how many must have the write.

    qps: asked at every call, since it may change; 0: no limit.
    """

    qps: Callable[[], int]
    queue_capacity: int
    wait_replicas: int = 0


@dataclass(frozen=True, slots=True)
class _Waiting:
    lane: str
    trace_id: str
    event_id: bytes
    wire: bytes
    notice_after_ms: int
    answer: asyncio.Future[Outcome]


class Inbox:
    """Accepts events into Redis."""

    def __init__(
        self, client: redis.asyncio.Redis, templates: tuple[str, str], limits: Limits
    ) -> None:
        self._client = client
        self._accept = client.register_script(script("accept"))
        self._before_qps: list[Any] = [*templates, "ingress"]
        self._qps = limits.qps
        self._after_qps = [keys.QPS_PREFIX, limits.queue_capacity, CONVERSATION_CAPACITY]
        self._wait_replicas = limits.wait_replicas
        self._waiting: deque[_Waiting] = deque()
        self._sender: asyncio.Task[None] | None = None

    async def accept(self, bot: IngressBot, event: Event) -> Outcome:
        """Record `event`, unless it is a duplicate or a limit is reached.

        Raises:
            StateUnavailableError: Redis did not confirm within `DEADLINE_S`. The event may have
                been recorded; sent again, it is then a duplicate.
            NotRecordedError: likewise, while this event still waited for its call.
        """
        waiting = _Waiting(
            lane=bot.keys.inbox(event.conversation_id),
            trace_id=event.trace_id,
            event_id=seen_id(event),
            wire=bot.wire(event).encode(),
            notice_after_ms=bot.notice_after_ms,
            answer=asyncio.get_running_loop().create_future(),
        )
        self._waiting.append(waiting)
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send_all())
        return await waiting.answer

    async def _send_all(self) -> None:
        while batch := self._next_batch():
            try:
                answers = await within(DEADLINE_S, self._send(batch))
            except Exception as error:  # whatever it is, nobody may wait for ever
                # Those who came meanwhile have waited for the same silent Redis: nobody waits
                # for longer than one deadline.
                _refuse(batch, StateUnavailableError, error)
                _refuse(self._waiting, NotRecordedError, error)
                self._waiting.clear()
                continue
            for waiting, answer in zip(batch, answers, strict=True):
                if not waiting.answer.done():
                    waiting.answer.set_result(answer)

    def _next_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        size = 0
        while self._waiting and len(batch) < MAX_BATCH_EVENTS and size < MAX_BATCH_BYTES:
            waiting = self._waiting.popleft()
            if not waiting.answer.done():  # its caller has not given up
                batch.append(waiting)
                size += len(waiting.wire)
        return batch

    async def _send(self, batch: list[_Waiting]) -> list[Outcome]:
        names = [keys.DUE, keys.HINTS, keys.SUSPECT, keys.SUSPECTS, keys.ACTIVE]
        args = [*self._before_qps, self._qps(), *self._after_qps]
        for waiting in batch:
            names.append(waiting.lane)
            args += [waiting.trace_id, waiting.event_id, waiting.wire, waiting.notice_after_ms]
        if not self._wait_replicas:
            return list(await self._accept(keys=names, args=args))
        return await self._send_and_wait(names, args)

    async def _send_and_wait(self, names: list[str], args: list[Any]) -> list[Outcome]:
        async with self._client.pipeline(transaction=False) as pipe:
            await self._accept(keys=names, args=args, client=pipe)
            pipe.execute_command("WAIT", self._wait_replicas, REPLICA_WAIT_MS)
            answers, replicas = await pipe.execute()
        if replicas < self._wait_replicas:
            raise TimeoutError(f"{replicas} of {self._wait_replicas} replicas have the write")
        return list(answers)


def _refuse(
    those: Iterable[_Waiting], kind: type[StateUnavailableError], cause: BaseException
) -> None:
    for waiting in those:
        if not waiting.answer.done():
            error = kind(f"Redis could not record: {type(cause).__name__}")
            error.__cause__ = cause
            waiting.answer.set_exception(error)
