"""Decryption agrees with the platform's own sample and with lark-oapi."""

from __future__ import annotations

from typing import Any

import pytest

from shared.platforms.feishu.cipher import decrypt
from tests.platforms.vectors import cases


@cases("feishu.json", "feishu_decrypt")
def test_decrypts_what_the_sdk_decrypts_and_refuses_the_rest(vector: dict[str, Any]) -> None:
    given, expect = vector["input"], vector["expect"]
    if expect["ok"]:
        assert decrypt(given["encrypt"], given["encrypt_key"]) == expect["plaintext"]
    else:
        with pytest.raises(ValueError):
            decrypt(given["encrypt"], given["encrypt_key"])
