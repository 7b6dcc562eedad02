"""The trace context of a webhook call goes with its event, through the queue to the model."""

from __future__ import annotations

from dataclasses import replace

from aiohttp import web

from shared.messages import Event
from shared.trace_context import TRACEPARENT, TRACESTATE, read_parent, read_state


def traced(event: Event, request: web.Request) -> Event:
    """`event` with the trace context of its call; what is not valid is as if it were absent."""
    headers = request.headers
    if TRACEPARENT not in headers:  # as almost always
        return event
    parent = read_parent(headers.getall(TRACEPARENT))
    if not parent:
        return event
    state = read_state(headers.getall(TRACESTATE, []))
    return replace(event, traceparent=parent, tracestate=state)
