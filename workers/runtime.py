"""What one worker process is made of. Built on the first task, after any fork."""

from __future__ import annotations

import os

from celery.worker import state

from shared.config import Settings
from shared.config.live import Live
from shared.envelope import PROCESS, PUSH, hint_templates
from workers.bots import Bots
from workers.claim_keeper import ClaimKeeper
from workers.client import HttpClient
from workers.limits import GO_ON_S, HARD_MARGIN_S, LONG_GO_ON_S
from workers.metrics import Metrics
from workers.model.build import build_models
from workers.process import Process
from workers.push import Push
from workers.quotas import Quotas
from workers.redis_client import connect
from workers.retry import Policy
from workers.stage import Stage
from workers.store import Lanes

MAX_REDIS_CONNECTIONS = 64  #: a call takes a millisecond: many slots share them
#: A claim is renewed this long past its deadline: for the last head, the hard limit's place.
RENEWAL_GRACE_S = HARD_MARGIN_S


class Runtime:
    """The stages of this process and what they share.

    owner: `<worker's name>/<mark of its start>`. has_soft_limit: Celery's pool keeps it.
    """

    def __init__(
        self,
        live: Live,
        owner: str,
        concurrency: int,
        metrics: Metrics,
        *,
        has_soft_limit: bool = True,
    ) -> None:
        settings = live.settings
        self._go_on_s = GO_ON_S if has_soft_limit else LONG_GO_ON_S
        self.pid = os.getpid()
        self.redis = connect(settings, max_connections=min(concurrency + 2, MAX_REDIS_CONNECTIONS))
        self.lanes = Lanes(self.redis, owner=owner, templates=hint_templates())
        keeper = ClaimKeeper(self.lanes)
        client = HttpClient(concurrency=concurrency)
        bots = Bots(live, self.redis)
        models = build_models(settings, client, self.redis, metrics)
        quotas = Quotas(live, self.lanes)
        process = Process(live, self.lanes, bots, models, quotas, metrics)
        push = Push(settings, self.lanes, bots, client, metrics)
        self.process = Stage(
            name=PROCESS,
            lanes=self.lanes,
            keeper=keeper,
            policy=_policy(settings, settings.retry.process_limit_s),
            limit_s=settings.answer_timeout_s + RENEWAL_GRACE_S,
            work=process.work,
            notice=process.notice,
            metrics=metrics,
            may_go_on=self._may_go_on,
            history_entries=2 * settings.conversation.turns,  # a question and an answer each
        )
        self.push = Stage(
            name=PUSH,
            lanes=self.lanes,
            keeper=keeper,
            policy=_policy(settings, settings.retry.push_limit_s),
            limit_s=settings.task_timeout_s + RENEWAL_GRACE_S,
            work=push.work,
            notice=push.notice,
            metrics=metrics,
            may_go_on=self._may_go_on,
        )

    def _may_go_on(self, age_s: float) -> bool:
        """A worker that was told to stop leaves what waits to others."""
        return age_s < self._go_on_s and state.should_stop is None


def _policy(settings: Settings, limit_s: float) -> Policy:
    return Policy(limit_s=limit_s, base_s=settings.retry.base_s, cap_s=settings.retry.cap_s)
