"""What every platform room must do. A room's test subclasses `RoomConformance` and fills it in."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import RequestRejectedError
from shared.http_values import RawRequest
from shared.messages import Challenge, Event, Ignored
from shared.platforms import PLATFORMS, load
from shared.platforms.base import Caller, Explain, Inbound, Outbound
from shared.platforms.steps import Step
from tests.platforms.answering import Answering
from tests.platforms.strange import HOSTILE_BODIES, JSON, ODD, dumped, property_test


class RoomConformance(Answering):
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

    def caller(self, **changes: Any) -> Caller:
        return load(PLATFORMS[self.platform].caller)(self.settings(**changes))

    def called(self, caller: Caller) -> RawRequest:
        return caller.message(
            "words 汉字",
            message_id="m1",
            conversation_id="c1",
            now=self.now,
            nonce=bytes(range(16)),
        )

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
            self.assert_explained(request, error.reason)
            return
        assert isinstance(outcome, Event | Challenge | Ignored)
        if isinstance(outcome, Event):
            outcome.to_wire(lambda secret: secret).encode()
            assert all(isinstance(value, str) for value in outcome.reply_address.values())

    def explained(self, request: RawRequest, **changes: Any) -> list[Step]:
        explain: Explain = load(PLATFORMS[self.platform].explain)
        return list(explain(self.settings(**changes), request, now=self.now))

    def assert_explained(self, request: RawRequest, reason: str) -> None:
        """The check that refused the call is among those that are shown to have failed."""
        steps = self.explained(request)
        assert reason in {step.name for step in steps if not step.passed}
        assert_nothing_is_told(steps, *self.secrets(), *request.headers.values())

    def secrets(self) -> set[str]:
        """The secrets among the options."""
        names = ("secret", "key", "token")
        values = {v for k, v in self.options.items() if any(name in k for name in names)}
        return values - {self.settings().bot_id}

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

    # Calling

    def test_what_the_caller_knows_holds(self) -> None:
        answers = self.caller().known_answers()
        assert answers
        assert set(answers.values()) == {True}

    @pytest.mark.parametrize("scheme", ["platform", "guide"])
    def test_a_call_of_our_own_gets_in_as_the_platforms_does(self, scheme: str) -> None:
        request = self.called(self.caller(signature_scheme=scheme))
        event = self.inbound(signature_scheme=scheme).receive(request, now=self.now)
        assert isinstance(event, Event)
        assert (event.text, event.message_id, event.conversation_id) == ("words 汉字", "m1", "c1")
        assert not event.by_old_secret

    def test_a_call_of_our_own_names_nobody_to_answer(self) -> None:
        event = self.inbound().receive(self.called(self.caller()), now=self.now)
        assert isinstance(event, Event)
        assert (event.sender_id, event.tenant_id, event.reply_secret) == ("", "", "")

    def test_a_call_with_other_secrets_does_not_get_in(self) -> None:
        changed = {
            name: f"{value}-other"
            for name, value in self.options.items()
            if name.endswith(("_secret", "encrypt_key", "verification_token"))
        }
        with pytest.raises(RequestRejectedError):
            self.inbound().receive(self.called(self.caller(**changed)), now=self.now)

    # Explaining a refusal

    def test_an_authentic_call_passes_every_check(self) -> None:
        steps = self.explained(self.signed(dumped(self.body)))
        assert {step.name for step in steps if not step.passed} == set()
        assert_nothing_is_told(steps, *self.secrets(), *self.signed(b"").headers.values())

    def test_a_signature_of_the_other_scheme_is_recognised(self) -> None:
        request = self.signed(dumped(self.body))
        if "signature" not in {step.name for step in self.explained(request)}:
            return  # without a key to sign with, the platform has no signature to recognise
        steps = self.explained(request, signature_scheme="guide")
        (signature,) = [step for step in steps if step.name == "signature"]
        assert not signature.passed
        assert signature.facts["would_match"] == "signature_scheme platform"

    def test_every_fact_can_be_written_down(self) -> None:
        for request in (RawRequest({}, b""), self.signed(b"{}"), self.signed(dumped(self.body))):
            for step in self.explained(request):
                assert json.loads(json.dumps(dict(step.facts))) == dict(step.facts)

    def test_the_codes_it_knows_are_few_and_its_own(self) -> None:
        codes, platform = self.outbound().codes, self.settings().platform

        assert 0 < len(codes) <= 100, "each is a label of a metric"
        assert [c for c in codes if not re.fullmatch(rf"{platform}:[A-Za-z0-9_.-]+", c)] == []

    def test_no_error_shows_a_secret(self) -> None:
        shown = repr(self.settings()) + " ".join(self.settings(signature_scheme="guide").warnings())
        for secret in self.secrets():
            assert secret not in shown

    def test_the_guide_scheme_refuses_the_platforms_own_signature(self) -> None:
        with pytest.raises(RequestRejectedError, match="signature"):
            self.inbound(signature_scheme="guide").receive(
                self.signed(dumped(self.body)), now=self.now
            )

    def test_only_the_guide_scheme_is_warned_about(self) -> None:
        assert self.settings().warnings() == []
        assert "guide" in self.settings(signature_scheme="guide").warnings()[0]


def assert_nothing_is_told(steps: list[Step], *secrets: str) -> None:
    """No secret, signature or header stands in a fact, not even half of it."""
    shown = json.dumps([dict(step.facts) for step in steps], ensure_ascii=False)
    for secret in secrets:
        for half in (secret[: len(secret) // 2], secret[len(secret) // 2 :]):
            assert len(half) < 8 or half not in shown


def _paths(value: Any, before: tuple[Any, ...] = ()) -> Any:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield (*before, name)
            yield from _paths(inner, (*before, name))


def _replaced(value: dict[str, Any], path: tuple[Any, ...], new: Any) -> dict[str, Any]:
    if len(path) == 1:
        return {**value, path[0]: new}
    return {**value, path[0]: _replaced(value[path[0]], path[1:], new)}
