"""The DingTalk room does what every room must do."""

from __future__ import annotations

from shared.http_values import RawRequest
from shared.platforms.dingtalk.outbound import PART_BYTES
from tests.platforms.conformance import RoomConformance
from tests.platforms.dingtalk import samples


class TestDingTalk(RoomConformance):
    platform = "dingtalk"
    options = samples.OPTIONS
    now = samples.NOW
    part_bytes = PART_BYTES
    body = samples.message()
    mention = "@所有人"

    def signed(self, body: bytes) -> RawRequest:
        return samples.signed(body)
