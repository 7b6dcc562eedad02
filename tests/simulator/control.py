"""The control API: tests order faults, read the ledger and set the pace here."""

from __future__ import annotations

import dataclasses

from aiohttp import web

from tests.simulator import wire
from tests.simulator.faults import FaultError
from tests.simulator.ledger import Posted, as_json
from tests.simulator.world import World


class Control:
    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/control/faults", self.order_fault),
            web.get("/control/faults", self.list_faults),
            web.delete("/control/faults", self.clear_faults),
            web.get("/control/ledger", self.ledger),
            web.get("/control/stats", self.stats),
            web.post("/control/events", self.report_events),
            web.post("/control/model", self.set_pace),
            web.post("/control/keys", self.change_keys),
            web.get("/control/keys", self.count_keys),
            web.post("/control/tokens/expire", self.expire_tokens),
            web.post("/control/sessions/expire", self.expire_sessions),
            web.post("/control/uuids/expire", self.expire_uuids),
            web.post("/control/reset", self.reset),
        ]

    async def order_fault(self, request: web.Request) -> web.Response:
        try:
            fault = self._world.faults.order(await wire.read_object(request))
        except FaultError as error:
            return bad_request(str(error))
        return web.json_response(dataclasses.asdict(fault))

    async def list_faults(self, _: web.Request) -> web.Response:
        return web.json_response(self._world.faults.as_json())

    async def clear_faults(self, _: web.Request) -> web.Response:
        self._world.faults.clear()
        return done()

    async def ledger(self, request: web.Request) -> web.Response:
        """`?since=` is the last `seq` already seen, `?conversation=` one chat only."""
        since = request.query.get("since", "0")
        if not since.isdecimal():
            return bad_request("since: expected the `seq` of a record")
        records = self._world.ledger.since(int(since), request.query.get("conversation", ""))
        return web.json_response([as_json(record) for record in records])

    async def stats(self, request: web.Request) -> web.Response:
        with_answers = request.query.get("answers") != "0"
        return web.json_response(self._world.ledger.stats(with_answers=with_answers))

    async def report_events(self, request: web.Request) -> web.Response:
        """A client tells what it posted to the gateway: {"events": [fields of Posted]}."""
        body = await wire.read_object(request)
        try:
            events = [Posted(**fields) for fields in body.get("events", ())]
        except TypeError as error:
            return bad_request(str(error))
        for posted in events:
            self._world.ledger.add_event(posted)
        return done()

    async def set_pace(self, request: web.Request) -> web.Response:
        """Set any of latency_s, tokens, token_interval_s; the others stay."""
        changes = await wire.read_object(request)
        if not all(isinstance(value, int | float) and value >= 0 for value in changes.values()):
            return bad_request("latency_s, tokens and token_interval_s are numbers from 0 on")
        try:
            self._world.pace = dataclasses.replace(self._world.pace, **changes)
        except TypeError as error:
            return bad_request(str(error))
        return web.json_response(dataclasses.asdict(self._world.pace))

    async def change_keys(self, request: web.Request) -> web.Response:
        """What the model accepts from now on: add, revoke (keys), pairs ({id: secret}),
        revoke_pairs (ids), lifetime_s and expire (of keys given for pairs).
        """
        body, desk = await wire.read_object(request), self._world.keys
        unknown = body.keys() - {"add", "revoke", "pairs", "revoke_pairs", "lifetime_s", "expire"}
        if unknown:
            return bad_request(f"unknown: {', '.join(sorted(unknown))}")
        desk.keys |= set(body.get("add", ()))
        desk.keys -= set(body.get("revoke", ()))
        desk.pairs |= body.get("pairs", {})
        for key_id in body.get("revoke_pairs", ()):
            desk.pairs.pop(key_id, None)
        desk.lifetime_s = float(body.get("lifetime_s", desk.lifetime_s))
        if body.get("expire"):
            desk.expire()
        return await self.count_keys(request)

    async def count_keys(self, _: web.Request) -> web.Response:
        """How many keys and pairs are accepted, and how many pairs were exchanged so far."""
        desk = self._world.keys
        counts = {"keys": len(desk.keys), "pairs": len(desk.pairs), "exchanges": desk.exchanges}
        return web.json_response(counts)

    async def expire_tokens(self, request: web.Request) -> web.Response:
        """Of `?platform=` alone, or of both."""
        desks = {"dingtalk": self._world.dingtalk_tokens, "feishu": self._world.feishu_tokens}
        platform = request.query.get("platform")
        if platform is not None and platform not in desks:
            return bad_request(f"platform must be one of {', '.join(desks)}")
        for desk in desks.values() if platform is None else [desks[platform]]:
            desk.expire()
        return done()

    async def expire_sessions(self, _: web.Request) -> web.Response:
        self._world.expire_sessions()
        return done()

    async def expire_uuids(self, _: web.Request) -> web.Response:
        """As if an hour had passed since every Feishu send."""
        self._world.feishu_uuids.clear()
        return done()

    async def reset(self, _: web.Request) -> web.Response:
        """Forget the ledger and the faults; credentials, tokens and pace stay."""
        self._world.ledger.reset()
        self._world.faults.clear()
        return done()


def done() -> web.Response:
    return web.json_response({"ok": True})


def bad_request(reason: str) -> web.Response:
    return web.json_response({"error": reason}, status=400)
