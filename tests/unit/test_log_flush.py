"""What is logged in a turn of the event loop goes out together, and all of it does."""

from __future__ import annotations

import asyncio
import io
import logging
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from ingress.log_flush import flushed_each_turn
from shared.log_files import SharedFile

FULL = Path("/dev/full")


class Stream(io.StringIO):
    """Counts its flushes."""

    flushes = 0

    def flush(self) -> None:
        self.flushes += 1


def emit(handler: logging.Handler, times: int = 1) -> None:
    for _ in range(times):
        handler.handle(logging.LogRecord("x", logging.INFO, "", 0, "line", (), None))


async def test_lines_of_one_turn_share_a_flush() -> None:
    stream = Stream()
    handler = logging.StreamHandler(stream)
    with flushed_each_turn([handler]):
        emit(handler, 3)
        assert stream.flushes == 0
        await asyncio.sleep(0)
        assert stream.flushes == 1
        emit(handler)
        await asyncio.sleep(0)
        assert stream.flushes == 2


async def test_a_thread_flushes_at_once() -> None:
    stream = Stream()
    handler = logging.StreamHandler(stream)
    with flushed_each_turn([handler]):
        thread = threading.Thread(target=emit, args=(handler, 2))
        thread.start()
        thread.join()
        assert stream.flushes == 2


def test_nothing_is_left_behind_when_the_loop_ends() -> None:
    stream = Stream()
    handler = logging.StreamHandler(stream)

    async def serve() -> None:
        with flushed_each_turn([handler]):
            emit(handler)

    asyncio.run(serve())
    ended = stream.flushes
    emit(handler)

    assert ended >= 1
    assert stream.flushes == ended + 1


@pytest.mark.skipif(not FULL.exists(), reason="only Linux has a disk that is always full")
async def test_a_log_that_cannot_be_written_is_nothing_to_log_about(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    handler = SharedFile(FULL, max_bytes=0, backups=1)
    with flushed_each_turn([handler]):
        for _ in range(3):
            emit(handler)
            await asyncio.sleep(0)
    with suppress(OSError):
        handler.close()

    assert caplog.records == []
    assert capfd.readouterr().err.count("can't be written") == 1
