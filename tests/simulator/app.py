"""Composition: one aiohttp application out of the chosen parts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from email.utils import formatdate
from functools import partial

from aiohttp import web

from tests.simulator.chat import Chat
from tests.simulator.clouds import Clouds
from tests.simulator.control import Control, bad_request
from tests.simulator.dingtalk import DingTalk
from tests.simulator.feishu import Feishu
from tests.simulator.model import Model
from tests.simulator.world import World

_MAX_BODY_BYTES = 8 * 1024 * 1024
_PARTS: dict[str, type[DingTalk | Feishu | Model]] = {
    "dingtalk": DingTalk,
    "feishu": Feishu,
    "model": Model,
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build_app(world: World) -> web.Application:
    """The application. Run it with `handler_cancellation=True`: who leaves ends the call."""
    app = web.Application(client_max_size=_MAX_BODY_BYTES, middlewares=[_same_origin])
    for part in world.parts:
        app.add_routes(_PARTS[part](world).routes())
    if "model" in world.parts:
        app.add_routes(Clouds(world).routes())
    app.add_routes(Control(world).routes())
    chat = Chat(world)
    app.add_routes(chat.routes())
    app.add_routes([web.get("/health", _health)])
    app.cleanup_ctx.append(chat.keep_session)
    app.on_shutdown.append(chat.end_streams)
    app.on_response_prepare.append(partial(_date, world))
    return app


async def _date(world: World, _: web.Request, response: web.StreamResponse) -> None:
    """A clock that is wrong shows in the `Date` of every answer."""
    response.headers["Date"] = formatdate(world.clock() + world.date_offset_s, usegmt=True)


@web.middleware
async def _same_origin(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A foreign web page in the same browser must not write chats or order faults."""
    origin = request.headers.get("Origin")
    if origin is not None and origin.partition("://")[2] != request.host:
        return bad_request("this simulator only serves its own page")
    return await handler(request)


async def _health(_: web.Request) -> web.Response:
    return web.json_response({"ok": True})
