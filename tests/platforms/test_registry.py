"""The registry names rooms that exist, and rooms keep to themselves."""

from __future__ import annotations

import subprocess
import sys

import pytest

from shared.platforms import PLATFORMS, Room, load
from shared.platforms.settings import BotSettings


@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_room_has_its_four_classes(platform: str) -> None:
    room = PLATFORMS[platform]
    assert issubclass(load(room.settings), BotSettings)
    assert load(room.settings).model_fields["platform"].default == platform
    assert callable(load(room.inbound).receive)
    sending = ("routes", "parts", "reply_request", "read_reply", "token_requests", "read_token")
    for name in (*sending, "addresses_request", "read_addresses"):
        assert callable(getattr(load(room.outbound), name))
    for name in ("known_answers", "message"):
        assert callable(getattr(load(room.caller), name))


def test_a_room_is_written_as_module_and_class() -> None:
    assert PLATFORMS["feishu"] == Room(
        "shared.platforms.feishu.settings:FeishuSettings",
        "shared.platforms.feishu.inbound:FeishuInbound",
        "shared.platforms.feishu.outbound:FeishuOutbound",
        "shared.platforms.feishu.caller:FeishuCaller",
        "shared.platforms.feishu.explain:explain",
    )


def test_the_registry_loads_no_room_before_it_is_used() -> None:
    script = (
        "import sys, shared.platforms as p\n"
        "assert not [m for m in sys.modules if m.startswith('shared.platforms.')]\n"
        "p.load(p.PLATFORMS['dingtalk'].inbound)\n"
        "assert 'shared.platforms.feishu' not in sys.modules\n"
        "assert 'cryptography' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
