"""The search for secrets finds what is planted, in every spelling; nothing rests on a blind one."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest

from tests.e2e.leaks import Needles

SECRET = 'k3y+with/slashes="quotes"=='
NEEDLES = Needles({"the key": SECRET, "another": "n0t-there-at-all"})
PLANTED = {
    "plain": SECRET,
    "in a log line": json.dumps({"message": f"key {SECRET} refused"}),
    "in JSON in JSON": json.dumps({"body": json.dumps({"key": SECRET})}),
    "with escaped slashes": json.dumps({"key": SECRET}).replace("/", "\\/"),
    "in a query": f"GET /x?key={quote(SECRET, safe='')}&y=1",
    "in a query in small letters": "key=k3y%2bwith%2fslashes%3d%22quotes%22%3d%3d",
    "as hex": SECRET.encode().hex(),
    "as base64": base64.b64encode(SECRET.encode()).decode(),
    "in base64": base64.b64encode(f"a{SECRET}bc".encode()).decode(),
    "in the middle of base64": base64.b64encode(f"ab{SECRET}c".encode()).decode(),
    "in base64 for URLs": base64.urlsafe_b64encode(f"abc{SECRET}".encode()).decode(),
}


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED.keys())
def test_a_planted_secret_is_found(planted: str) -> None:
    content = f"before {planted} after".encode()

    found = NEEDLES.found_in([("here", content), ("there", b"nothing")])

    assert {(leak.where, leak.what) for leak in found} == {("here", "the key")}


def test_what_only_looks_alike_is_none() -> None:
    assert NEEDLES.found_in([("here", b"k3y+with/slashes"), ("there", b"")]) == []


def test_a_secret_too_short_to_be_looked_for_is_no_proof() -> None:
    with pytest.raises(AssertionError, match="too short"):
        Needles({"pin": "1234"})
