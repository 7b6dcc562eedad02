"""`python -m tests.e2e.broken.wrong_clock -A workers worker …`: Celery on a clock that is wrong.

`CLOCK_OFF_S`: by how many seconds; less than 0 is behind.

Moved before anything of Celery or of ours is imported, so that nobody keeps the right one.
"""

from __future__ import annotations

import datetime
import os
import runpy
import time

OFF_S = int(os.environ["CLOCK_OFF_S"])

_time, _time_ns = time.time, time.time_ns


class _Datetime(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(time.time(), tz)


if __name__ == "__main__":
    time.time = lambda: _time() + OFF_S
    time.time_ns = lambda: _time_ns() + OFF_S * 1_000_000_000
    datetime.datetime = _Datetime
    runpy.run_module("celery", run_name="__main__", alter_sys=True)
