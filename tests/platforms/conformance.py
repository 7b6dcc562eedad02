"""What every platform room must do. A room's test subclasses `RoomConformance` and fills it in."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import RequestRejectedError, TaskError
from shared.http_values import HttpResponse, RawRequest
from shared.messages import AddressPage, Challenge, Delivered, Event, Ignored, Part, Token
from shared.platforms import PLATFORMS, load
from shared.platforms.base import Inbound, Outbound

#: Deterministic, and without a time limit: the machine may be busy.
property_test = settings(max_examples=60, deadline=None, derandomize=True, database=None)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=12,
)
#: Values that have broken parsers before.
ODD = st.sampled_from(
    [
        *(None, True, 0, -1, 10**400, 1.5, float("nan"), [], [None], {}, {"text": 1}),
        *("", " ", "\x00", "\ud800", "a\ud83d", "x" * 300),
        *('{"text":', '{"text":"\\ud800"}', "[" * 5000),
    ]
)
HOSTILE_BODIES = [
    b"",
    b"\xff\xfe",
    b"null",
    b"[]",
    b'"x"',
    b"NaN",
    b"1" * 5000,
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b"{}",
    b"\xef\xbb\xbf{}",
    b'{"encrypt":{}}',
    b'{"encrypt":""}',
    '{"a":1}'.encode("utf-16"),
]
WORDS = st.text(
    st.sampled_from('ab \n\n。！, \t"\\<>@/汉字🙂\x00\r') | st.characters(), max_size=400
)


def dumped(value: Any) -> bytes:
    return json.dumps(value).encode()


class RoomConformance:
    """Subclasses set the attributes and say how the platform signs."""

    platform: str
    options: dict[str, Any]  #: settings that work, their secrets in plain text
    now: float
    part_bytes: int
    body: dict[str, Any]  #: a text message as the platform sends it, before encryption
    mention: str  #: a mention of everybody

    def signed(self, body: bytes) -> RawRequest:
        """`body` as an authentic call."""
        raise NotImplementedError

    def settings(self, **changes: Any) -> Any:
        return load(PLATFORMS[self.platform].settings).model_validate({**self.options, **changes})

    def inbound(self, **changes: Any) -> Inbound:
        return load(PLATFORMS[self.platform].inbound)(self.settings(**changes))

    def outbound(self, **changes: Any) -> Outbound:
        return load(PLATFORMS[self.platform].outbound)(self.settings(**changes))

    def event(self) -> Event:
        event = self.inbound().receive(self.signed(dumped(self.body)), now=self.now)
        assert isinstance(event, Event)
        return event

    def assert_decided(self, inbound: Inbound, request: RawRequest) -> None:
        """Whatever comes in: a value, or one of the two refusals; and it can be stored."""
        try:
            outcome = inbound.receive(request, now=self.now)
        except RequestRejectedError as error:
            assert error.status in (400, 401)  # noqa: PT017
            return
        assert isinstance(outcome, Event | Challenge | Ignored)
        if isinstance(outcome, Event):
            outcome.to_wire(lambda secret: secret).encode()
            assert all(isinstance(value, str) for value in outcome.reply_address.values())

    # Receiving

    def test_a_message_becomes_an_event(self) -> None:
        event = self.event()
        assert (event.platform, event.app_id) == (self.platform, self.settings().bot_id)
        assert event.message_id
        assert event.event_id
        assert event.conversation_id
        assert event.text

    def test_a_redelivery_is_the_same_event(self) -> None:
        assert self.event() == self.event()

    def test_an_unsigned_call_is_refused(self) -> None:
        request = RawRequest({}, self.signed(dumped(self.body)).body)
        with pytest.raises(RequestRejectedError):
            self.inbound().receive(request, now=self.now)

    @pytest.mark.parametrize("body", HOSTILE_BODIES, ids=lambda b: repr(b[:12]))
    def test_a_hostile_body_is_decided_signed_or_not(self, body: bytes) -> None:
        self.assert_decided(self.inbound(), self.signed(body))
        self.assert_decided(self.inbound(), RawRequest(self.signed(b"").headers, body))
        self.assert_decided(self.inbound(), RawRequest({}, body))

    def test_any_signed_json_is_decided(self) -> None:
        inbound = self.inbound()

        @property_test
        @given(JSON)
        def check(value: Any) -> None:
            self.assert_decided(inbound, self.signed(dumped(value)))

        check()

    def test_any_wrong_type_in_any_field_is_decided(self) -> None:
        inbound, paths = self.inbound(), list(_paths(self.body))

        @property_test
        @given(st.sampled_from(paths), ODD | JSON)
        def check(path: tuple[Any, ...], value: Any) -> None:
            try:
                body = dumped(_replaced(self.body, path, value))
            except ValueError:
                return  # an integer too long to be written down
            self.assert_decided(inbound, self.signed(body))

        check()

    def test_any_headers_and_bytes_are_decided(self) -> None:
        inbound, names = self.inbound(), list(self.signed(b"").headers)
        values = st.text(max_size=30) | st.sampled_from(["\ud800", "9" * 400, "-1", "1e9", "٣"])

        @property_test
        @given(st.dictionaries(st.sampled_from(names), values), st.binary(max_size=60))
        def check(headers: dict[str, str], body: bytes) -> None:
            self.assert_decided(inbound, RawRequest(headers, body))

        check()

    # Replying

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

    def test_no_error_shows_a_secret(self) -> None:
        secrets = [
            v for k, v in self.options.items() if "secret" in k or "key" in k or "token" in k
        ]
        shown = repr(self.settings()) + " ".join(self.settings(signature_scheme="guide").warnings())
        for secret in set(secrets) - {self.settings().bot_id}:
            assert secret not in shown

    def test_the_guide_scheme_refuses_the_platforms_own_signature(self) -> None:
        with pytest.raises(RequestRejectedError, match="signature"):
            self.inbound(signature_scheme="guide").receive(
                self.signed(dumped(self.body)), now=self.now
            )

    def test_only_the_guide_scheme_is_warned_about(self) -> None:
        assert self.settings().warnings() == []
        assert "guide" in self.settings(signature_scheme="guide").warnings()[0]


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


def _paths(value: Any, before: tuple[Any, ...] = ()) -> Any:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield (*before, name)
            yield from _paths(inner, (*before, name))


def _replaced(value: dict[str, Any], path: tuple[Any, ...], new: Any) -> dict[str, Any]:
    if len(path) == 1:
        return {**value, path[0]: new}
    return {**value, path[0]: _replaced(value[path[0]], path[1:], new)}
