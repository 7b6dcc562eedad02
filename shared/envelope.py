"""Queue names, task names, and a lane's hint as the Celery message that a stock worker runs.

The one file of `shared` that imports celery and kombu: the message is made by their own functions,
once per process, as a template whose marks (`$LANE$`, `$SEQ$`, …) the Lua scripts fill in. Two of
these functions are not public, so a contract test runs such messages on a stock worker.
"""

from __future__ import annotations

from typing import Any, Final

from celery import Celery
from kombu import Connection
from kombu.utils.json import dumps

PROCESS: Final = "process"
PUSH: Final = "push"
QUEUES: Final = (PROCESS, PUSH)  #: each stage's queue and task bear the stage's name

_ARGS = ("$LANE$", "$SEQ$", "$TRACE$")
_ID = "$ID$"
_TAG = "$TAG$"


def hint_templates() -> tuple[str, str]:
    """The templates of a `process` and a `push` hint, as the scripts take them (ARGV 1 and 2)."""
    app = Celery("clawdbot", set_as_current=False)
    with Connection("memory://") as connection, connection.channel() as channel:
        # Plain JSON inside the message instead of base64, so that a script can fill in the marks.
        channel.body_encoding = "utf-8"
        producer = connection.Producer(channel, serializer="json")
        process, push = (_template(app, channel, producer, stage) for stage in QUEUES)
    return process, push


def _template(app: Celery, channel: Any, producer: Any, stage: str) -> str:
    task = app.amqp.as_task_v2(_ID, stage, _ARGS, {}, origin="clawdbot", ignore_result=True)
    body, content_type, encoding = producer._prepare(task.body, headers=task.headers)
    message = channel.prepare_message(
        body, None, content_type, encoding, task.headers, dict(task.properties)
    )
    channel._inplace_augment_message(message, "", stage)
    message["properties"]["delivery_tag"] = _TAG
    return str(dumps(message))
