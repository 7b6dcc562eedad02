"""Values on the wire: nothing lost on the way, nothing that UTF-8 can't carry."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shared.messages import (
    MAX_TEXT_BYTES,
    WIRE_VERSION,
    Event,
    Reply,
    cap_text,
    digest,
    dump_json,
)
from shared.trace_context import Trace

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ANY_TEXT = st.text(st.characters(), max_size=60)  # lone surrogates included


ADDRESSES = st.dictionaries(st.text(max_size=5), ANY_TEXT, max_size=3)


def make(**more: Any) -> Event:
    base = {"platform": "feishu", "app_id": "a", "message_id": "m", "event_id": "e"}
    return Event(**{**base, "conversation_id": "c", "text": "t", **more})  # type: ignore[arg-type]


@given(text=st.text(max_size=200), name=st.text(max_size=20))
def test_an_event_comes_back_as_it_went(text: str, name: str) -> None:
    event = make(text=text, sender_name=name, reply_secret="hook")

    wire = event.to_wire(lambda secret: secret[::-1])

    assert Event.from_wire(wire, lambda sealed: sealed[::-1]) == event
    assert '"hook"' not in wire


@given(text=ANY_TEXT, name=ANY_TEXT)
def test_any_text_can_be_written_to_redis(text: str, name: str) -> None:
    make(text=text, sender_name=name, conversation_id=name).to_wire(str).encode()


@given(text=ANY_TEXT, name=ANY_TEXT, group=st.booleans(), address=ADDRESSES)
def test_the_wire_form_is_what_the_general_encoder_writes(
    text: str, name: str, group: bool, address: dict[str, str]
) -> None:
    event = make(
        text=text,
        sender_id=name,
        is_group=group,
        reply_address=address,
        created_ms=7,
        traceparent=PARENT,
        tracestate="rojo=1",
    )
    names = [f.name for f in fields(Event) if f.init and f.metadata.get("wire", True)]
    values = {name: getattr(event, name) for name in names}

    assert event.to_wire(str) == dump_json({"v": WIRE_VERSION, **values})


def test_the_trace_of_its_call_goes_with_an_event() -> None:
    event = make(traceparent=PARENT, tracestate="rojo=1")

    assert Event.from_wire(event.to_wire(str), str).trace == Trace(event.trace_id, PARENT, "rojo=1")
    assert event == make(), "a redelivery under another trace is the same event"


def test_an_event_without_a_trace_takes_no_byte_for_it() -> None:
    assert "trace" not in make().to_wire(str)
    assert make().trace == Trace(make().trace_id)


def test_with_which_secret_an_event_was_proved_stays_in_the_ingress() -> None:
    event = make(by_old_secret=True)

    assert "old_secret" not in event.to_wire(str)
    assert not Event.from_wire(event.to_wire(str), str).by_old_secret


def test_fields_of_a_later_release_are_left_aside() -> None:
    wire = json.loads(make().to_wire(str))

    assert Event.from_wire(json.dumps({**wire, "v": 2, "mood": "good"}), str) == make()


def test_text_is_capped_at_64_kib_on_a_character_border() -> None:
    event = make(text="字" * 50_000)

    kept = Event.from_wire(event.to_wire(str), str).text

    assert MAX_TEXT_BYTES - 3 < len(kept.encode()) <= MAX_TEXT_BYTES


@given(text=st.text(max_size=100), limit=st.integers(0, 50))
def test_a_capped_text_is_a_prefix(text: str, limit: int) -> None:
    capped = cap_text(text, limit)

    assert text.startswith(capped)
    assert len(capped.encode()) <= limit


def test_redeliveries_share_a_trace_id_and_other_apps_do_not() -> None:
    assert make(text="x").trace_id == make(text="y", event_id="other").trace_id
    assert make().trace_id != make(app_id="b").trace_id
    assert digest("ab", "c") != digest("a", "bc")


def test_every_part_has_its_own_stable_key_of_at_most_50_characters() -> None:
    reply, notice = Reply(("a", "b")), Reply(("a",), kind="notice")
    trace_id = make().trace_id

    keys = [reply.key(trace_id, 0), reply.key(trace_id, 1), notice.key(trace_id, 0)]

    assert len(set(keys)) == 3
    assert all(len(key) <= 50 for key in keys)
    assert Reply.from_wire(reply.to_wire()) == reply
