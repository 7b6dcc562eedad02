"""What one worker process is made of. Built on the first task, after any fork."""

from __future__ import annotations

import os

from shared.config import Settings
from shared.envelope import PROCESS, PUSH, hint_templates
from workers.bots import Bots
from workers.claims import ClaimKeeper
from workers.client import HttpClient
from workers.model import Model
from workers.process import Process
from workers.push import Push
from workers.redis_client import connect
from workers.retry import Policy
from workers.stage import Stage
from workers.store import Lanes

MAX_REDIS_CONNECTIONS = 64  #: a call takes a millisecond: many slots share them
RENEWAL_GRACE_S = 3  #: a claim is renewed this long past its deadline: the hard limit's place


class Runtime:
    """The stages of this process and what they share."""

    def __init__(self, settings: Settings, owner: str, concurrency: int) -> None:
        self.pid = os.getpid()
        self.redis = connect(settings, max_connections=min(concurrency + 2, MAX_REDIS_CONNECTIONS))
        self.lanes = Lanes(self.redis, owner=owner, templates=hint_templates())
        keeper = ClaimKeeper(self.lanes)
        client = HttpClient(concurrency=concurrency)
        bots = Bots(settings, self.redis)
        process = Process(settings, self.lanes, bots, _model(settings, client))
        push = Push(settings, self.lanes, bots, client)
        self.process = Stage(
            name=PROCESS,
            lanes=self.lanes,
            keeper=keeper,
            policy=_policy(settings, settings.retry.process_limit_s),
            limit_s=settings.answer_timeout_s + RENEWAL_GRACE_S,
            work=process.work,
            notice=process.notice,
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
        )


def _policy(settings: Settings, limit_s: float) -> Policy:
    return Policy(limit_s=limit_s, base_s=settings.retry.base_s, cap_s=settings.retry.cap_s)


def _model(settings: Settings, client: HttpClient) -> Model:
    key = settings.service.auth.ak_secret
    return Model(
        client,
        endpoint=settings.service.auth.endpoint or "",
        key=key[0].get_secret_value() if key else "",
        name=settings.model.name,
        stream=settings.model.stream,
        temperature=settings.model.temperature,
        max_tokens=settings.model.max_tokens,
    )
