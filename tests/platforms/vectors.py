"""The golden vectors in tests/vectors: made by the platforms' own SDKs, not by us."""

from __future__ import annotations

import base64
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from shared.http_values import HttpRequest, HttpResponse, RawRequest

_FOLDER = Path(__file__).parents[1] / "vectors"


@cache
def _read(name: str) -> list[dict[str, Any]]:
    return json.loads((_FOLDER / name).read_text("utf-8"))["vectors"]


def cases(name: str, kind: str) -> pytest.MarkDecorator:
    """Parametrise a test's `vector` with every vector of `kind` in the file `name`."""
    chosen = [v for v in _read(name) if v["kind"] == kind]
    assert chosen, f"no {kind} in {name}"
    return pytest.mark.parametrize("vector", chosen, ids=lambda v: v["id"])


def vector(name: str, vector_id: str) -> dict[str, Any]:
    return next(v for v in _read(name) if v["id"] == vector_id)


def raw_request(vector: dict[str, Any]) -> RawRequest:
    given = vector["input"]
    headers = {name.lower(): value for name, value in given["headers"].items()}
    return RawRequest(headers, base64.b64decode(given["body_b64"]))


def http_response(vector: dict[str, Any]) -> HttpResponse:
    given = vector["input"]
    body = b"" if given["body"] is None else json.dumps(given["body"]).encode()
    headers = {name.lower(): value for name, value in given["headers"].items()}
    return HttpResponse(given["http_status"], headers, body)


def assert_same_request(request: HttpRequest, base: str, expect: dict[str, Any]) -> None:
    """`request` is the recorded one; strings that hold JSON compare as JSON."""
    assert request.method == expect["method"]
    assert request.url == base + expect["path"]
    headers = {name.lower(): value for name, value in request.headers.items()}
    for name, value in expect["headers"].items():
        assert headers[name.lower()] == value
    assert _unpacked(json.loads(request.body)) == _unpacked(expect["json"])


def _unpacked(value: dict[str, Any]) -> dict[str, Any]:
    inner = {k: json.loads(value[k]) for k in ("content", "msgParam") if k in value}
    return {**value, **inner}
