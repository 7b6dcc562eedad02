"""The way of one event, put together from what Redis knows of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from redis.exceptions import ResponseError

from shared.state import keys
from shared.state.finished import Finished, ended_day, read_finished
from shared.state.keys import BotKeys, LaneKeys
from shared.trace_context import Trace
from workers.ops.context import Operator, instant

Step = dict[str, Any]

#: A code at the beginning of what an attempt failed with; other lines of the log have none.
_CODE = re.compile(r"[A-Za-z]\w*:[^\s:]+")


def follow(op: Operator, bot: BotKeys, trace_id: str) -> dict[str, Any]:
    """Fate and steps (oldest first) of an event that exists.

    now: who works on it, or what it waits for; empty at its end. w3c_trace_id: what the model was
    told, as long as the record stands.
    """
    key = bot.event(trace_id)
    try:
        record = op.client.hgetall(key)
    except ResponseError:  # it has ended: what is left of it is a line, and stays one
        line = op.client.get(key) or ""
        finished = read_finished(line, op.client.hgetall(keys.words(ended_day(line))))
        fate, steps, told, now = finished.fate, _finished_steps(finished), "", ""
    else:
        fate, steps = _fate(record), _steps(record)
        told, now = _w3c_id(record, trace_id), _now(op, record, trace_id)
    return {
        "bot": bot.prefix,
        "trace_id": trace_id,
        "w3c_trace_id": told,
        "fate": fate,
        "now": now,
        "steps": sorted(steps, key=lambda step: step["ms"]),
    }


def _finished_steps(event: Finished) -> Iterator[Step]:
    yield _step(event.accepted_ms, "accepted")
    if event.claimed_ms is not None:
        yield _step(event.claimed_ms, "first claimed for processing")
    if event.written_ms is not None:
        yield _written(event.written_ms, event.process_tries, event.process_worker)
    names = {"route": event.route, "worker": event.push_worker}
    names["why" if event.fate == "rejected" else "last failure"] = event.code
    yield _step(
        event.ended_ms,
        _detailed(event.fate, f"attempts to push: {event.push_tries}", names),
        attempts=event.push_tries,
        route=event.route,
        worker=event.push_worker,
        code=event.code,
    )


def _steps(record: Mapping[str, str]) -> Iterator[Step]:
    yield _step(int(record["accepted"]), "accepted")
    if "claimed" in record:
        yield _step(int(record["claimed"]), "first claimed for processing")
    if "told" in record:
        yield _step(int(record["told"]), "told that it takes longer")
    if "written" in record:
        tries, worker = record.get("process_tries", "0"), record.get("process_worker", "")
        yield _written(int(record["written"]), int(tries), worker)
    yield from map(_logged, _lines(record.get("log", "")))
    if "dead" in record:
        why = record["dead_reason"]
        yield _step(
            int(record["dead"]), f"dead: {why}", stage=record["dead_stage"], code=_code(why)
        )


def _written(ms: int, tries: int, worker: str) -> Step:
    what = _detailed("reply written", f"attempts: {tries}", {"worker": worker})
    return _step(ms, what, stage="process", attempts=tries, worker=worker)


def _lines(log: str) -> Iterator[str]:
    """Its whole lines; what earlier versions cut off its beginning is left out."""
    return (line for line in log.split("\n") if line.count("\t") >= 3)


def _logged(entry: str) -> Step:
    """A line of the record's log, as `note` in `lua/_history.lua` writes it."""
    ms, stage, attempt, text = entry.split("\t", 3)
    number, _, worker = attempt.partition(" ")
    by = f" by {worker}" if worker else ""
    what = f"{stage}, attempt {number}{by}: {text}" if number != "0" else f"{stage}: {text}"
    code = _code(text)
    return _step(int(ms), what, stage=stage, attempt=int(number), worker=worker, code=code)


def _fate(record: Mapping[str, str]) -> str:
    if "dead" in record:
        return "dead"
    if "fate" in record:
        return f"{record['fate']}, its notice waiting for push"
    return "waiting for push" if "written" in record else "waiting for the model"


def _now(op: Operator, record: Mapping[str, str], trace_id: str) -> str:
    if "dead" in record:
        return ""
    inbox = record["lane"]
    lane = LaneKeys(LaneKeys(inbox).outbox if "written" in record else inbox)
    before = op.client.lpos(lane.lane, trace_id)
    if before is None:
        return ""
    if before:
        return f"behind {before} of its conversation"
    state = op.client.hgetall(lane.state)
    if "claim" in state:
        worker, since = state["owner"].partition("/")[0], instant(int(state["claimed"]))
        return f"attempt {state['tries']} by {worker} since {since}"
    if "retry" in state:
        return f"next attempt at {instant(int(state['retry']))}"
    return "until a worker is free"


def _w3c_id(record: Mapping[str, str], trace_id: str) -> str:
    return Trace(trace_id, json.loads(record["event"]).get("traceparent", "")).w3c_id


def _code(text: str) -> str:
    found = _CODE.match(text)
    return found[0] if found else ""


def _detailed(what: str, first: str, names: Mapping[str, str]) -> str:
    known = [f"{name} {value}" for name, value in names.items() if value]
    return f"{what} ({', '.join([first, *known])})"


def _step(ms: int, what: str, **facts: Any) -> Step:
    """facts: the same for programs."""
    return {"ms": ms, "what": what, **facts}
