"""`python -m tests.simulator`: a fake DingTalk, Feishu and model with a page to chat."""

from __future__ import annotations

import argparse
import asyncio
import errno
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from aiohttp import web

from tests.simulator import credentials
from tests.simulator.app import build_app
from tests.simulator.world import World

_EXIT_USAGE = 2
_SHUTDOWN_S = 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    base_url = f"http://{_reachable(options.host)}:{options.port}"
    try:
        known = credentials.read_env(options.env_out)
        seeds = credentials.read_env(options.seed_file) if options.seed_file else {}
        values = credentials.complete({**known, **seeds}, options.only, base_url)
        if options.write_env_only:
            _write(options, seeds, values)
            return 0
        asyncio.run(_serve(options, seeds, values, base_url))
    except (credentials.CredentialsError, PortError) as error:
        print(f"simulator: {error}", file=sys.stderr)
        return _EXIT_USAGE
    return 0


class PortError(Exception):
    """The address can't be listened on; the text is for the person at the terminal."""


async def _serve(
    options: argparse.Namespace, seeds: Mapping[str, str], values: Mapping[str, str], base_url: str
) -> None:
    world = World(values, options.only, options.ingress.rstrip("/"), base_url)
    runner = web.AppRunner(
        build_app(world),
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=_SHUTDOWN_S,
    )
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await runner.setup()
    try:
        await _listen(runner, options.host, options.port)
        _write(options, seeds, values)
        print(f"simulator: open {base_url}/ to chat with the bot", flush=True)
        await stop.wait()
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, host: str, port: int) -> None:
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortError(
                f"port {port} on {host} is already in use; stop what listens there "
                "or choose another port with --port"
            ) from error
        raise PortError(f"can't listen on {host}:{port}: {error}") from error


def _write(
    options: argparse.Namespace, seeds: Mapping[str, str], values: Mapping[str, str]
) -> None:
    credentials.write_env(options.env_out, values)
    if options.seed_file:
        credentials.write_env(options.seed_file, {**seeds, **values})


def _reachable(host: str) -> str:
    """Where the gateway finds us: an address that means "any" is no place to call."""
    return "127.0.0.1" if host in ("0.0.0.0", "::", "") else host


def _parts(text: str) -> tuple[str, ...]:
    chosen = {part.strip() for part in text.split(",") if part.strip()}
    unknown = chosen - set(credentials.PARTS)
    if unknown or not chosen:
        known = ", ".join(credentials.PARTS)
        raise argparse.ArgumentTypeError(f"{text!r}: choose from {known}, comma-separated")
    return tuple(part for part in credentials.PARTS if part in chosen)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    add = parser.add_argument
    add("--host", default="127.0.0.1")
    add("--port", type=int, required=True)
    add("--ingress", default="http://127.0.0.1:18789", help="the gateway's address")
    add("--env-out", type=Path, required=True, help="file for the gateway's environment; reused")
    add("--only", type=_parts, default=credentials.PARTS, help="dingtalk,feishu,model")
    add("--seed-file", type=Path, help="keeps the secrets of all parts, whatever --only says")
    add("--write-env-only", action="store_true", help="write the file and exit")
    return parser


if __name__ == "__main__":
    sys.exit(main())
