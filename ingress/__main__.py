"""`python -m ingress`: serve until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import contextlib
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
from shared.config.follow import INTERVAL_S, Follower, make_follower
from shared.config.load import exit_for
from shared.errors import ConfigError
from shared.process import open_logs_or_exit, raise_open_files_limit, start_anew

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


async def serve(follower: Follower) -> bool:
    """Run the gateway until told to stop; requests under way are finished. Raises: PortError.

    Returns whether it is to be built anew instead: Redis was away when it was, and says something
    now that can't change live.
    """
    settings, stop = follower.live.settings, asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    runner = make_runner(settings, follower)
    await runner.setup()
    try:
        await _listen(runner, settings)
        for warning in settings.warnings():
            logger.warning("settings.warning", extra={"metadata": {"warning": warning}})
        logger.info("ingress.started", extra={"metadata": {"port": settings.port}})
        await _told_to_stop_or_outdated(stop, follower)
    finally:
        await runner.cleanup()
    return not stop.is_set()


async def _listen(runner: web.AppRunner, settings: Settings) -> None:
    try:
        await web.TCPSite(runner, settings.host, settings.port, backlog=1024).start()
    except OSError as error:
        raise PortError(f"CLAWDBOT_PORT={settings.port}: {error.strerror or error}") from error


async def _serve_and_log(follower: Follower) -> bool:
    with flushed_each_turn(logging.getLogger().handlers):
        return await serve(follower)


async def _told_to_stop_or_outdated(stop: asyncio.Event, follower: Follower) -> None:
    """Outdated: before anybody was let in."""
    while not follower.is_whole and not stop.is_set():
        if follower.is_late and follower.waits_for_restart:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), INTERVAL_S)
    await stop.wait()


def main() -> int:
    """Exit code 0 after a clean stop, 1 without its port or log files, 2 for wrong settings."""
    raise_open_files_limit()
    try:
        follower = make_follower()
        with asyncio.Runner(loop_factory=loops.new_event_loop) as runner:
            runner.run(first_look(follower))
            open_logs_or_exit("ingress", follower.live.settings.log)
            follower.tell()
            is_outdated = runner.run(_serve_and_log(follower))
    except ConfigError as error:
        exit_for(error)
    except PortError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if is_outdated:
        start_anew()
    return 0


if __name__ == "__main__":
    sys.exit(main())
