"""What time it is in Redis, without asking: a host's own clock may be wrong."""

from __future__ import annotations

import time


class RedisTime:
    """Redis's time as its latest answer told it: behind by that answer's way, not ahead."""

    def __init__(self) -> None:
        self._ahead_ms: float | None = None

    def heard(self, now_ms: int) -> None:
        """An answer that has just come was made at `now_ms`."""
        self._ahead_ms = now_ms - time.monotonic() * 1000

    def after_ms(self, wait_ms: int) -> int:
        """The time in `wait_ms`; 0 while no answer has told any."""
        if self._ahead_ms is None:
            return 0
        return int(self._ahead_ms + time.monotonic() * 1000 + wait_ms)
