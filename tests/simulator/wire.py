"""Answers on the wire, well-behaved or as a fault orders."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.simulator.faults import Fault

_HANG_S = 600.0  #: longer than any deadline of the gateway
_DRIP_STEPS_PER_S = 20.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP answer. `body`: text as it is, anything else as JSON."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        if isinstance(self.body, str):
            return self.body.encode()
        return json.dumps(self.body, ensure_ascii=False, separators=(",", ":")).encode()

    @property
    def content_headers(self) -> dict[str, str]:
        kind = "text/plain" if isinstance(self.body, str) else "application/json"
        return {"Content-Type": f"{kind}; charset=utf-8", **self.headers}


async def read_object(request: web.Request) -> dict[str, Any]:
    """The body as a JSON object; an empty one when it is anything else."""
    try:
        value = json.loads(await request.read())
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def send(answer: Answer) -> web.Response:
    return web.Response(status=answer.status, body=answer.encode(), headers=answer.content_headers)


async def refuse(
    request: web.Request, fault: Fault, error: Callable[[Fault], Answer]
) -> web.StreamResponse:
    """Answer in the place of work that is not done. `error` knows the platform's error shape."""
    if fault.kind == "hang":
        await asyncio.sleep(fault.delay_s or _HANG_S)
    if fault.kind in ("hang", "drop"):
        return hang_up(request)
    if fault.kind == "errcode":
        return send(error(fault))
    if fault.kind == "empty":
        return send(Answer(200, ""))
    return send(Answer(fault.status or 500, fault.body, fault.headers))


async def spoil(request: web.Request, fault: Fault | None, answer: Answer) -> web.StreamResponse:
    """Answer after the work was done, badly where a fault says so."""
    if fault is None:
        return send(answer)
    if fault.kind == "slow":
        await asyncio.sleep(fault.delay_s)
    if fault.kind == "lose_response":
        return hang_up(request)
    if fault.kind not in ("drip", "cut"):
        return send(answer)
    body = answer.encode()
    headers = {**answer.content_headers, "Content-Length": str(len(body))}
    response = web.StreamResponse(status=answer.status, headers=headers)
    await response.prepare(request)
    if fault.kind == "drip":
        await drip(response, body, fault.bytes_per_s)
        return response
    await response.write(body[: len(body) // 2])
    hang_up(request)
    return response


async def send_chunks(
    request: web.Request, answer: Answer, chunks: Iterable[bytes]
) -> web.StreamResponse:
    """`chunks` as the body, in the chunks that they are; `answer` gives the rest."""
    response = web.StreamResponse(status=answer.status, headers=answer.content_headers)
    await response.prepare(request)
    for chunk in chunks:
        await response.write(chunk)
    return response


async def drip(response: web.StreamResponse, body: bytes, bytes_per_s: float) -> None:
    """Write a few bytes at a time, so that no pause between two bytes is long."""
    step = max(1, int(bytes_per_s / _DRIP_STEPS_PER_S))
    for start in range(0, len(body), step):
        await response.write(body[start : start + step])
        await asyncio.sleep(step / bytes_per_s)


def hang_up(request: web.Request) -> web.Response:
    """Close the connection. The answer that is returned has nowhere to go."""
    if request.transport is not None:
        request.transport.close()
    return web.Response()
