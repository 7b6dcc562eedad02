"""The vault: what opens what, through rotation and the introduction of a master key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import PermanentError
from shared.vault import Vault

CONTEXT = "dingtalk:ding1"
TEXT = "https://oapi.dingtalk.com/robot/sendBySession?session=abc"


def vault(masters=(), bots=("app secret",), context=CONTEXT) -> Vault:
    return Vault.for_bot(masters, bots, context)


@given(st.text(st.characters(), max_size=200))
def test_whatever_is_sealed_opens(text):
    assert vault().open(vault().seal(text)) == text


def test_a_sealed_text_shows_nothing_and_differs_every_time():
    one, two = vault().seal(TEXT), vault().seal(TEXT)

    assert one != two
    assert "session" not in one
    assert one.isascii()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (vault(bots=["old"]), vault(bots=["new", "old"])),
        (vault(["old"]), vault(["new", "old"])),
        (vault(), vault(["introduced"])),
    ],
)
def test_rotation_loses_nothing(before, after):
    assert after.open(before.seal(TEXT)) == TEXT


@pytest.mark.parametrize(
    "sealer",
    [
        vault(bots=["another"]),
        vault(context="dingtalk:ding2"),
        vault(["master"]),
        vault(["app secret"], ["unrelated"]),
    ],
)
def test_another_key_or_context_does_not_open(sealer):
    with pytest.raises(PermanentError, match="CLAWDBOT_MASTER_KEY") as caught:
        vault().open(sealer.seal(TEXT))

    assert caught.value.code == "vault:unreadable"


def test_the_newest_key_seals():
    assert vault(["new"]).open(vault(["new", "old"]).seal(TEXT)) == TEXT
    with pytest.raises(PermanentError):
        vault(bots=["old"]).open(vault(bots=["new", "old"]).seal(TEXT))


@pytest.mark.parametrize("broken", ["", "nonsense", "é", "gAAAA" + "A" * 100])
def test_what_is_not_sealed_is_unreadable(broken):
    with pytest.raises(PermanentError, match="vault:unreadable"):
        vault().open(broken)


def test_a_tampered_text_is_unreadable():
    sealed = vault().seal(TEXT)
    tampered = sealed[:20] + ("A" if sealed[20] != "A" else "B") + sealed[21:]

    with pytest.raises(PermanentError, match="vault:unreadable"):
        vault().open(tampered)


def test_no_key_at_all_is_refused():
    with pytest.raises(ValueError, match="CLAWDBOT_MASTER_KEY"):
        vault(bots=[])
