"""`python -m ingress`: serve until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

from aiohttp import web

from ingress.app import build_app
from ingress.config_center import first_look
from ingress.connections import Runner
from ingress.door import DOOR
from ingress.log_flush import flushed_each_turn
from ingress.outsiders import OUTSIDERS
from shared.config import Settings
from shared.config.follow import Follower, follower_or_exit
from shared.process import open_logs_or_exit, raise_open_files_limit

try:
    import uvloop as loops
except ImportError:  # no wheel for this platform: asyncio's own loop does
    import asyncio as loops  # type: ignore[no-redef]

#: Longer than proxies keep theirs (nginx: 60 s): a call sent while we close is lost on DingTalk.
IDLE_TIMEOUT_S = 75
SHUTDOWN_TIMEOUT_S = 5

logger = logging.getLogger("ingress")  # `__name__` is "__main__" here


class PortError(Exception):
    """The port can't be listened on."""


def make_runner(settings: Settings, follower: Follower | None = None) -> web.AppRunner:
    """The gateway, and how long it bears with a connection."""
    app = build_app(settings, follower)
    return Runner(
        app,
        app[DOOR],
        app[OUTSIDERS],
        access_log=None,
        keepalive_timeout=IDLE_TIMEOUT_S,
        lingering_time=1.0,
        auto_decompress=False,  # signatures are over raw bytes, and no bomb is unpacked
        shutdown_timeout=SHUTDOWN_TIMEOUT_S,
    )


async def serve(follower: Follower) -> None:
    """Run the gateway until told to stop; requests under way are finished. Raises: PortError."""
    settings = follower.live.settings
    runner = make_runner(settings, follower)
    await runner.setup()
    try:
        await _listen(runner, settings)
        for warning in settings.warnings():
            logger.warning("settings.warning", extra={"metadata": {"warning": warning}})
        logger.info("ingress.started", extra={"metadata": {"port": settings.port}})
        await _told_to_stop()
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, settings: Settings) -> None:
    try:
        await web.TCPSite(runner, settings.host, settings.port, backlog=1024).start()
    except OSError as error:
        raise PortError(f"CLAWDBOT_PORT={settings.port}: {error.strerror or error}") from error


async def _serve_and_log(follower: Follower) -> None:
    with flushed_each_turn(logging.getLogger().handlers):
        await serve(follower)


async def _told_to_stop() -> None:
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    await stop.wait()


def main() -> int:
    """Exit code 0 after a clean stop, 1 without its port or log files, 2 for wrong settings."""
    follower = follower_or_exit()
    raise_open_files_limit()
    try:
        with asyncio.Runner(loop_factory=loops.new_event_loop) as runner:
            runner.run(first_look(follower))
            open_logs_or_exit("ingress", follower.live.settings.log)
            follower.tell()
            runner.run(_serve_and_log(follower))
    except PortError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
