"""Why DingTalk's call was refused: the checks of `inbound.py`, each with what was seen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from shared.http_values import RawRequest
from shared.platforms.dingtalk.inbound import WINDOW_S, guide_signature, platform_signature
from shared.platforms.dingtalk.settings import DingTalkSettings
from shared.platforms.settings import reveal
from shared.platforms.steps import (
    Step,
    first_match,
    json_step,
    name_in,
    signature_facts,
    timestamp_step,
)
from shared.platforms.text import id_in

_SIGN = {"platform": platform_signature, "guide": guide_signature}
_FORM = {"platform": "base64", "guide": "hex"}


def explain(settings: DingTalkSettings, request: RawRequest, *, now: float) -> Iterator[Step]:
    """See `shared.platforms.base.Explain`."""
    yield timestamp_step(
        request.headers.get("timestamp", ""), seconds=False, now=now, window_s=WINDOW_S
    )
    yield _signature(settings, request.headers)
    is_json, body = json_step(request.body)
    has_id = bool(id_in(body.get("msgId")))
    yield replace(
        is_json, passed=is_json.passed and has_id, facts={**is_json.facts, "has_msg_id": has_id}
    )
    robot, corp = body.get("robotCode"), body.get("chatbotCorpId")
    yield Step(
        "robot_code",
        robot == settings.robot_code,
        {"given": name_in(robot), "expected": settings.robot_code},
    )
    yield Step(
        "corp_id",
        not settings.corp_ids or id_in(corp) in settings.corp_ids,
        {"given": name_in(corp), "expected": list(settings.corp_ids)},
    )


def _signature(settings: DingTalkSettings, headers: Mapping[str, str]) -> Step:
    timestamp, presented = headers.get("timestamp", ""), headers.get("sign", "")
    scheme, secrets = settings.signature_scheme, reveal(settings.app_secret)
    sign = _SIGN[scheme]
    facts: dict[str, Any] = {
        "scheme": scheme,
        "expected_form": _FORM[scheme],
        **signature_facts(
            presented,
            secrets,
            lambda secret: sign(timestamp, secret),
            lambda secret: f"{timestamp}\n{secret}".encode("utf-8", "surrogatepass"),
        ),
    }
    if facts["matched"] < 0:
        other = "guide" if scheme == "platform" else "platform"
        facts["would_match"] = first_match(
            unquote(presented),
            {
                "percent-decoded": [sign(timestamp, secret) for secret in secrets],
                f"signature_scheme {other}": [_SIGN[other](timestamp, s) for s in secrets],
                "secret without white space": [sign(timestamp, s.strip()) for s in secrets],
            },
        )
    return Step("signature", facts["matched"] >= 0, facts)
