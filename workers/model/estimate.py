"""How many tokens a text has, roughly, where nobody counted them."""

from __future__ import annotations

import re

CHARACTERS_PER_TOKEN = 4  #: of text that isn't Chinese, Japanese or Korean
_NOT_CJK = re.compile(r"[^\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]+")


def estimate(text: str) -> int:
    """One token a Chinese, Japanese or Korean character, one for four others, rounded up."""
    cjk = 0 if text.isascii() else len(_NOT_CJK.sub("", text))
    return cjk - (cjk - len(text)) // CHARACTERS_PER_TOKEN
