"""Composition root of the workers: `app` is what `celery -A workers …` runs."""

from __future__ import annotations

import logging
import os
import secrets
import sys
import threading
from typing import Any

from celery import Celery, signals
from kombu import Exchange, Queue

from shared.config import Settings
from shared.config.follow import make_follower
from shared.config.load import exit_for
from shared.envelope import PROCESS, QUEUES, hint_templates
from shared.errors import ConfigError
from shared.process import open_logs_or_exit, raise_open_files_limit, start_anew
from workers.config_center import ConfigCenter
from workers.flower_address import keep_at_home
from workers.leader import leader_duties
from workers.limits import time_limits
from workers.measuring import Measuring
from workers.redis_client import broker_options, connect
from workers.runtime import Runtime
from workers.store import Lanes
from workers.supervision import Duties, describe_worker, pool_name, supervision_step


class WorkerProcess:
    """This process's settings and name, and its `Runtime`, made anew after a fork."""

    def __init__(self, center: ConfigCenter) -> None:
        self.center = center
        settings = self.settings
        self.owner = _unique(f"celery@{os.getpid()}")
        self.concurrency = settings.async_processing.thread_pool_size
        self.pool = "prefork"
        bots = [(bot.platform, bot.name) for bot in settings.all_bots()]
        self.measuring = Measuring(settings.metrics, bots)
        self._runtime: Runtime | None = None
        self._building = threading.Lock()

    @property
    def settings(self) -> Settings:
        """Those in force."""
        return self.center.live.settings

    def name_worker(self, name: str, concurrency: int, pool: str) -> None:
        """Remember who we are; called in the main process, before the pool forks."""
        self.owner = _unique(name)
        self.concurrency = concurrency
        self.pool = pool
        self.measuring.begin(forks=pool == "prefork")

    @property
    def runtime(self) -> Runtime:
        """The stages of this very process."""
        with self._building:
            if self._runtime is None or self._runtime.pid != os.getpid():
                self.center.follow()
                self._runtime = Runtime(
                    self.center.live,
                    self.owner,
                    self.concurrency,
                    self.measuring.metrics,
                    has_soft_limit=self.pool == "prefork",
                )
            return self._runtime


def _unique(name: str) -> str:
    """A worker's name with a mark of this start: in containers, names and pids come again."""
    return f"{name}/{os.getpid()}-{secrets.token_hex(4)}"


def make_app(settings: Settings) -> Celery:
    """The Celery app: the lanes are the truth, so its messages are acknowledged at once."""
    app = Celery("workers", include=["workers.tasks"])
    app.conf.update(
        broker_url=settings.redis.broker_url,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # Measured twice as fast and sturdier than late acks; a lost hint is repeated from Redis.
        broker_transport_options={
            "ack_emulation": False,
            "socket_timeout": 10,
            "socket_connect_timeout": settings.redis.socket_timeout_s,
            "health_check_interval": 30,
            **broker_options(settings),
        },
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        task_ignore_result=True,
        # Else every greenlet makes a (disabled) backend of its own: 6 % of a gevent task.
        result_backend_thread_safe=True,
        task_store_errors_even_if_ignored=False,
        task_queues=[Queue(name, Exchange(name), routing_key=name) for name in QUEUES],
        task_default_queue=PROCESS,
        task_routes={name: {"queue": name} for name in QUEUES},
        task_annotations=time_limits(settings),
        worker_concurrency=settings.async_processing.thread_pool_size,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_send_task_events=False,
    )
    return app


def _center_or_exit() -> ConfigCenter:
    try:
        return ConfigCenter(make_follower())
    except ConfigError as error:
        exit_for(error)


worker_process = WorkerProcess(_center_or_exit())
app = make_app(worker_process.settings)
if "flower" in sys.argv:  # `celery -A workers flower`, which is Flower's own command
    keep_at_home(sys.argv, os.environ)


@app.steps["worker"].add
@supervision_step
def _duties(worker: Any) -> Duties:
    worker_process.center.follow()
    settings = worker_process.settings
    client = connect(settings, max_connections=2)
    lanes = Lanes(client, owner=worker_process.owner, templates=hint_templates())
    machine = worker.hostname.rpartition("@")[2]
    scraped_at = worker_process.measuring.show(machine)
    return Duties(
        client,
        lanes,
        worker=worker.hostname,
        facts={**describe_worker(worker), "metrics": scraped_at},
        leader=leader_duties(settings, client, lanes),
    )


@signals.celeryd_init.connect
def _await_center(**_: Any) -> None:
    """A worker that Redis was away from begins again: quotas, say, may be there, and only there."""
    if not worker_process.center.is_whole:
        _configure_logs()
        worker_process.center.await_redis()
        start_anew()


@signals.worker_process_init.connect
def _begin_child(**_: Any) -> None:
    worker_process.measuring.begin_child()


@signals.setup_logging.connect
def _configure_logs(**_: Any) -> None:
    open_logs_or_exit("worker", worker_process.settings.log)
    worker_process.center.tell()
    for name in ("celery.app.trace", "celery.worker.strategy"):  # two lines a task that say nothing
        logging.getLogger(name).setLevel(logging.WARNING)


@signals.celeryd_after_setup.connect
def _name_worker(sender: str, instance: Any, **_: Any) -> None:
    raise_open_files_limit()
    worker_process.name_worker(sender, instance.concurrency or 1, pool_name(instance))
