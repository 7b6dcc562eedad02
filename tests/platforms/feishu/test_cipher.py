"""Decryption agrees with the platform's own sample and with lark-oapi."""

from __future__ import annotations

import base64
from contextlib import suppress
from typing import Any

import pytest

from shared.platforms.feishu.cipher import FeishuCipher
from tests.platforms.vectors import cases, vector


@cases("feishu.json", "feishu_decrypt")
def test_decrypts_what_the_sdk_decrypts_and_refuses_the_rest(vector: dict[str, Any]) -> None:
    given, expect = vector["input"], vector["expect"]
    if expect["ok"]:
        assert FeishuCipher(given["encrypt_key"]).decrypt(given["encrypt"]) == expect["plaintext"]
    else:
        with pytest.raises(ValueError):
            FeishuCipher(given["encrypt_key"]).decrypt(given["encrypt"])


def test_a_cipher_remembers_nothing_of_the_call_before() -> None:
    good = vector("feishu.json", "feishu.decrypt.chinese")
    given, plaintext = good["input"], good["expect"]["plaintext"]
    cipher = FeishuCipher(given["encrypt_key"])

    for between in (given["encrypt"], "AAAA", base64.b64encode(bytes(range(64))).decode()):
        with suppress(ValueError):
            cipher.decrypt(between)
        assert cipher.decrypt(given["encrypt"]) == plaintext
