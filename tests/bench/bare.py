"""The least an ingress can do: a bare aiohttp handler that only reads the body."""

from __future__ import annotations

import argparse
import asyncio

import uvloop
from aiohttp import web


async def handle(request: web.Request) -> web.Response:
    await request.read()
    return web.json_response({})


async def _serve(port: int) -> None:
    app = web.Application()
    app.router.add_post("/{platform}/webhook", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(_serve(parser.parse_args().port))
