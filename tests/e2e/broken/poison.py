"""`celery -A tests.e2e.broken.poison worker …`: a worker that one message makes exit.

It imports like `workers`: only after Celery has patched the process for gevent.
"""

from __future__ import annotations

import os
import time
from typing import Any

from workers.celery import app
from workers.claim import Claim
from workers.process import Process

__all__ = ["POISON", "app"]

POISON = "this message ends its process"
DIES_AFTER_S = 0.5  #: so that its neighbours are at work by then

_work = Process.work


def _work_or_die(self: Process, claim: Claim, *more: Any) -> Any:
    if POISON in claim.record["event"]:
        time.sleep(DIES_AFTER_S)
        os._exit(1)
    return _work(self, claim, *more)


Process.work = _work_or_die
