"""Lua scripts that survive a server which forgets them: restarted, failed over, flushed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import redis.asyncio
from redis.commands.core import AsyncScript
from redis.exceptions import NoScriptError


class Client(redis.asyncio.Redis):  # type: ignore[misc]
    """A client whose scripts are sent whole to a server that doesn't know them."""

    def register_script(self, text: str) -> SentWhenUnknown:
        """As in redis-py."""
        return SentWhenUnknown(self, text)


class SentWhenUnknown(AsyncScript):  # type: ignore[misc]
    """A script by its digest, or with its text.

    redis-py 8.1 loads an unknown one and calls it by its digest again: two steps, and a call fails
    when the server forgets in between.
    """

    async def __call__(
        self, keys: Sequence[Any] = (), args: Iterable[Any] = (), client: Any = None
    ) -> Any:
        if client is not None:  # a pipeline: loads what is unknown before it is sent
            return await super().__call__(keys, args, client)
        sent = (len(keys), *keys, *args)
        try:
            return await self.registered_client.evalsha(self.sha, *sent)
        except NoScriptError:
            return await self.registered_client.eval(self.script, *sent)
