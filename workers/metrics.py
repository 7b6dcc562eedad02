"""What a worker counts. The names are in `shared/metrics.py`."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from prometheus_client import CollectorRegistry, disable_created_metrics

from shared import metrics
from shared.envelope import PROCESS, PUSH, QUEUES
from shared.errors import TaskError
from shared.instruments import counter, histogram
from workers import outcomes
from workers.bots import WorkerBot
from workers.claim import Claim
from workers.model.chat import Answer
from workers.outcomes import Attempt
from workers.usage import Usage

_CHILDREN = 4096  #: more than there are combinations of labels
_READY_SINCE = {PROCESS: "accepted", PUSH: "written"}  #: a record's field by stage


class Metrics:
    """The counts of one process. Made after `metrics_folder.share_counts`, each child of a forking
    pool keeps its own where all can be added up.

    Thread-safe. What alerts ask of stages and bots is shown from the start: they can't see a series
    grow whose first value is not 0.
    """

    def __init__(self, bots: Iterable[tuple[str, str]] = ()) -> None:
        """bots: platform and name of those whose messages are shown before the first one."""
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        cached = lru_cache(_CHILDREN)  # a look-up by labels takes a lock and builds tuples
        self._wait = cached(histogram(metrics.STAGE_WAIT, self.registry).labels)
        self._run = cached(histogram(metrics.STAGE_RUN, self.registry).labels)
        self._attempts = cached(counter(metrics.STAGE_ATTEMPTS, self.registry).labels)
        self._calls = cached(counter(metrics.MODEL_CALLS, self.registry).labels)
        self._first_token = cached(histogram(metrics.MODEL_FIRST_TOKEN, self.registry).labels)
        self._call = cached(histogram(metrics.MODEL_CALL, self.registry).labels)
        self._tokens = cached(counter(metrics.MODEL_TOKENS, self.registry).labels)
        self._sends = cached(counter(metrics.PUSH_SENDS, self.registry).labels)
        self._send = cached(histogram(metrics.PUSH_SEND, self.registry).labels)
        self._message = cached(histogram(metrics.MESSAGE, self.registry).labels)
        for stage in QUEUES:
            self._wait(stage)
            self._run(stage)
            for outcome in Attempt:
                self._attempts(stage, outcome.value)
        for platform, bot in bots:
            self._message(platform, bot)

    def attempted(self, stage: str, claim: Claim, outcome: Attempt, run_s: float) -> None:
        """An attempt ended. Notices are not counted: they are no messages."""
        if claim.is_notice:
            return
        self._attempts(stage, outcome.value).inc()
        self._run(stage).observe(run_s)
        ready_ms = claim.record.get(_READY_SINCE[stage])
        if claim.attempt == 1 and ready_ms and "next_part" not in claim.record:
            self._wait(stage).observe(max(0.0, (claim.now_ms - int(ready_ms)) / 1000))

    def answered(self, model: str, answer: Answer, call_s: float) -> None:
        """A call of a model brought an answer."""
        self._calls(model, outcomes.OK).inc()
        self._call(model).observe(call_s)
        if answer.first_token_s:  # a whole answer has none
            self._first_token(model).observe(answer.first_token_s)

    def unanswered(self, model: str, error: TaskError) -> None:
        """A call of a model failed, or was not made."""
        self._calls(model, str(outcomes.of_call(error))).inc()

    def used(self, model: str, usage: Usage) -> None:
        """An answer was written back."""
        self._tokens(model, "prompt").inc(usage.prompt_tokens)
        self._tokens(model, "completion").inc(usage.completion_tokens)

    def sent(self, bot: WorkerBot, route: str, error: TaskError | None, send_s: float) -> None:
        """A send ended; error: None, if the platform took it."""
        names = bot.keys.platform, bot.name, route
        if error is None:
            self._sends(*names, outcomes.OK, outcomes.OK).inc()
        else:
            code = outcomes.code_label(error.code, bot.outbound.codes)
            self._sends(*names, outcomes.of_send(error), code).inc()
        self._send(bot.keys.platform, route).observe(send_s)

    def delivered(self, bot: WorkerBot, whole_s: float) -> None:
        """The last part of an answer was delivered, so long after its message was accepted."""
        self._message(bot.keys.platform, bot.name).observe(max(0.0, whole_s))
