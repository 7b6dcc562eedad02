"""The Feishu room does what every room must do."""

from __future__ import annotations

from shared.http_values import RawRequest
from shared.platforms.feishu.outbound import PART_BYTES
from tests.platforms.conformance import RoomConformance
from tests.platforms.feishu import samples


class TestFeishu(RoomConformance):
    platform = "feishu"
    options = samples.OPTIONS
    now = samples.NOW
    part_bytes = PART_BYTES
    body = samples.message()
    mention = '<at user_id="all">所有人</at>'

    def signed(self, body: bytes) -> RawRequest:
        return samples.signed(samples.encrypted(body))


class TestFeishuWithTokenOnly(TestFeishu):
    """No Encrypt Key: the body is plain, and the token in it is the only proof."""

    options = samples.TOKEN_ONLY

    def signed(self, body: bytes) -> RawRequest:
        return RawRequest(dict(samples.signed(body).headers), body)

    def test_an_unsigned_call_is_refused(self) -> None:
        """Not here: nothing is ever signed without an Encrypt Key."""

    def test_only_the_guide_scheme_is_warned_about(self) -> None:
        assert "no encrypt_key" in self.settings().warnings()[0]
