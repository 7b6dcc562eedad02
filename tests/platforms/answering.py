"""What every room's outbound half must do; part of `RoomConformance`."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import TaskError
from shared.http_values import HttpResponse
from shared.messages import AddressPage, Delivered, Event, Part, Token
from shared.platforms.base import Outbound
from tests.platforms.strange import HOSTILE_BODIES, JSON, ODD, WORDS, dumped, property_test


class Answering:
    """Routes, parts and what platforms answer."""

    now: float
    part_bytes: int
    mention: str

    def outbound(self) -> Outbound:
        raise NotImplementedError

    def event(self) -> Event:
        raise NotImplementedError

    def test_the_event_can_be_answered_by_every_route_it_offers(self) -> None:
        event, outbound = self.event(), self.outbound()
        routes = outbound.routes(event.reply_address, event.reply_secret, now=self.now)
        assert routes
        part = Part("ok", "key-1", event.reply_address, event.reply_secret)
        for route in routes:
            request = outbound.reply_request(route, part, "token-1" if route.needs_token else "")
            assert request.method == "POST"
            assert request.url.startswith("https://")
            assert ("token-1" in repr(request.headers)) is route.needs_token

    def test_an_empty_address_has_no_route(self) -> None:
        assert self.outbound().routes({}, "", now=self.now) == ()

    @pytest.mark.parametrize("text", ["", " ", "\n\n\t", "\x00", "\r\n"])
    def test_blank_text_has_no_part(self, text: str) -> None:
        assert self.outbound().parts(text) == ()

    def test_parts_lose_nothing_but_white_space(self) -> None:
        outbound = self.outbound()

        @property_test
        @given(WORDS, st.integers(1, 200))
        def check(text: str, times: int) -> None:
            one = outbound.parts(text)
            many = outbound.parts((text + "\n\n") * times)
            assert _squeezed("".join(many)) == _squeezed("".join(one)) * times

        check()

    def test_parts_fit_and_are_not_blank(self) -> None:
        outbound = self.outbound()

        @property_test
        @given(WORDS, st.integers(1, 200))
        def check(text: str, times: int) -> None:
            for part in outbound.parts(text * times):
                assert part.strip()
                assert len(json.dumps(part, ensure_ascii=False).encode()) - 2 <= self.part_bytes

        check()

    def test_a_mention_does_not_survive(self) -> None:
        outbound = self.outbound()
        (part,) = outbound.parts(f"before {self.mention} after")
        assert self.mention not in part
        assert (part[:7], part[-6:]) == ("before ", " after")
        assert outbound.parts(part) == (part,)

    # Reading answers

    def test_any_answer_is_delivered_or_a_task_error(self) -> None:
        event, outbound = self.event(), self.outbound()
        routes = outbound.routes(event.reply_address, event.reply_secret, now=self.now)
        bodies = JSON.map(dumped) | st.binary(max_size=30) | st.sampled_from(HOSTILE_BODIES)
        names = ["code", "errcode", "msg", "data", "processQueryKey", "accessToken", "expireIn"]
        shaped = st.dictionaries(st.sampled_from([*names, "expire"]), ODD | JSON).map(_dumped_lossy)

        @property_test
        @given(st.sampled_from([200, 204, 302, 400, 401, 403, 404, 429, 500, 504]), bodies | shaped)
        def check(status: int, body: bytes) -> None:
            response = HttpResponse(status, {"retry-after": "x"}, body)
            for route in routes:
                _assert_read(lambda r=route: outbound.read_reply(r, response), Delivered)
            _assert_read(lambda: outbound.read_token(response), Token)

        check()

    def test_published_addresses_are_read_or_an_error(self) -> None:
        outbound = self.outbound()
        request = outbound.addresses_request("token-1", "")
        if request is None:
            return  # it publishes none
        assert "token-1" in repr(request.headers)
        assert request.url != outbound.addresses_request("token-1", "page 2&=").url  # type: ignore[union-attr]
        lists = st.lists(ODD | JSON | st.just("192.0.2.1"), max_size=3)
        data = st.fixed_dictionaries({"ip_list": lists, "page_token": ODD, "has_more": ODD})
        shaped = st.fixed_dictionaries({"code": st.just(0), "data": data | ODD}).map(_dumped_lossy)

        @property_test
        @given(st.sampled_from([200, 302, 400, 429, 500, 504]), shaped | st.binary(max_size=30))
        def check(status: int, body: bytes) -> None:
            response = HttpResponse(status, {}, body)
            _assert_read(lambda: outbound.read_addresses(response), AddressPage)

        check()


def _assert_read(read: Any, kind: type) -> None:
    try:
        assert isinstance(read(), kind)
    except TaskError as error:
        assert re.fullmatch(r"[a-z]+:[A-Za-z0-9_.-]{1,80}", error.code)  # noqa: PT017
        assert len(error.detail) <= 300  # noqa: PT017


def _dumped_lossy(value: Any) -> bytes:
    try:
        return dumped(value)
    except ValueError:
        return b"{}"


def _squeezed(text: str) -> str:
    return "".join(text.split())
