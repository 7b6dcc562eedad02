"""Fake Baidu and Volcengine: a signed call with an AccessKey pair gives a short-lived key."""

from __future__ import annotations

import calendar
import hmac
import json
import time
from collections.abc import Mapping

from aiohttp import web

from tests.simulator import wire
from tests.simulator.cloud_signing import Call, bce_signature, volc_signature
from tests.simulator.faults import Fault
from tests.simulator.wire import Answer
from tests.simulator.world import World

_MAX_SKEW_S = 900

#: Baidu's statuses that are not 400: https://cloud.baidu.com/doc/Reference/s/Bjz3uz3qj
_BAIDU_STATUS = {"InvalidAccessKeyId": 403}
#: Volcengine's: https://www.volcengine.com/docs/6369/68677
_VOLCENGINE_STATUS = {
    "InvalidAccessKey": 401,
    "InvalidActionOrVersion": 404,
    "SignatureDoesNotMatch": 401,
}


class Clouds:
    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/baidu/v1/BCE-BEARER/token", self.baidu_token),
            web.post("/volcengine/", self.volcengine_key),
        ]

    async def baidu_token(self, request: web.Request) -> web.StreamResponse:
        fault = self._world.faults.take("baidu.token")
        if fault and fault.stops_work:
            return await wire.refuse(request, fault, _baidu_fault)
        refusal = self._baidu_refusal(await _call(request), request.headers)
        if refusal:
            status = _BAIDU_STATUS.get(refusal, 400)
            return await wire.spoil(request, fault, _baidu_error(status, refusal))
        key_id = request.headers["Authorization"].split("/")[1]
        wanted_s = float(request.query.get("expireInSeconds", "0"))
        key, ends = self._world.keys.derive(key_id, wanted_s)
        body = {
            "userId": "u1",
            "token": key,
            "status": "enable",
            "createTime": _iso(self._world.clock()),
            "expireTime": _iso(ends),
        }
        return await wire.spoil(request, fault, Answer(200, body))

    async def volcengine_key(self, request: web.Request) -> web.StreamResponse:
        fault = self._world.faults.take("volcengine.key")
        if fault and fault.stops_work:
            return await wire.refuse(request, fault, _volcengine_fault)
        call = await _call(request)
        refusal = self._volcengine_refusal(call, request)
        if refusal:
            status = _VOLCENGINE_STATUS.get(refusal, 400)
            return await wire.spoil(request, fault, _volcengine_error(status, refusal))
        wanted = json.loads(call.body)
        key_id = request.headers["Authorization"].split("Credential=")[1].split("/")[0]
        key, ends = self._world.keys.derive(
            key_id, float(wanted["DurationSeconds"]), wanted["ResourceIds"]
        )
        body = {
            "ResponseMetadata": {"RequestId": "r1", "Action": "GetApiKey"},
            "Result": {"ApiKey": key, "ExpiredTime": int(ends)},
        }
        return await wire.spoil(request, fault, Answer(200, body))

    def _baidu_refusal(self, call: Call, headers: Mapping[str, str]) -> str:
        """The code of what is wrong with the call; empty when nothing is."""
        authorization = headers.get("Authorization", "")
        parts = authorization.split("/")
        if len(parts) != 6 or parts[0] != "bce-auth-v1" or "host" not in parts[4].split(";"):
            return "InvalidHTTPAuthHeader"
        secret = self._world.keys.pairs.get(parts[1])
        if secret is None:
            return "InvalidAccessKeyId"
        if not self._is_now(parts[2], "%Y-%m-%dT%H:%M:%SZ"):
            return "RequestExpired"
        if headers.get("x-bce-date", parts[2]) != parts[2]:
            return "InvalidHTTPRequest"
        if not hmac.compare_digest(bce_signature(call, authorization, secret), parts[5]):
            return "SignatureDoesNotMatch"
        return ""

    def _volcengine_refusal(self, call: Call, request: web.Request) -> str:
        authorization = request.headers.get("Authorization", "")
        if "Credential=" not in authorization or "Signature=" not in authorization:
            return "MissingSignature"
        if request.query.get("Action") != "GetApiKey" or request.query["Version"] != "2024-01-01":
            return "InvalidActionOrVersion"
        secret = self._world.keys.pairs.get(authorization.split("Credential=")[1].split("/")[0])
        if secret is None:
            return "InvalidAccessKey"
        if not self._is_now(call.headers.get("x-date", ""), "%Y%m%dT%H%M%SZ"):
            return "InvalidTimestamp"
        signed = volc_signature(call, authorization, secret)
        if not hmac.compare_digest(signed, authorization.rpartition("Signature=")[2]):
            return "SignatureDoesNotMatch"
        return ""

    def _is_now(self, text: str, form: str) -> bool:
        try:
            sent = calendar.timegm(time.strptime(text, form))
        except ValueError:
            return False
        return abs(self._world.clock() - sent) <= _MAX_SKEW_S


async def _call(request: web.Request) -> Call:
    headers = {name.lower(): value for name, value in request.headers.items()}
    return Call(
        request.method, request.path, list(request.query.items()), headers, await request.read()
    )


def _iso(when: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))


def _baidu_error(status: int, code: str) -> Answer:
    return Answer(status, {"code": code, "message": "refused", "requestId": "r1"})


def _baidu_fault(fault: Fault) -> Answer:
    return _baidu_error(fault.status or 400, str(fault.code))


def _volcengine_error(status: int, code: str) -> Answer:
    error = {"Code": code, "CodeN": 100000, "Message": "refused"}
    return Answer(status, {"ResponseMetadata": {"RequestId": "r1", "Error": error}})


def _volcengine_fault(fault: Fault) -> Answer:
    return _volcengine_error(fault.status or 400, str(fault.code))
