"""How many tokens a text has: estimated, or counted by the model's own tokenizer."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

CHARS_PER_TOKEN = 4  #: of ASCII text; any other character counts as a token of its own
MESSAGE_TOKENS = 4  #: what a chat message costs beside its text

Counter = Callable[[str], int]

logger = logging.getLogger(__name__)


def estimate(text: str) -> int:
    """Tokens of `text`, rather too many than too few.

    Tokenizers of Chinese models need 0.6 to 1 token a character, those of English text one for
    about four characters.
    """
    ascii_chars = len(text.encode("ascii", "ignore"))
    return len(text) - ascii_chars + -(-ascii_chars // CHARS_PER_TOKEN)


@lru_cache(maxsize=4)
def counter(tokenizer: Path | None) -> Counter:
    """Counts tokens with a `tokenizer.json`; None, or one that can't be used: estimates them."""
    if tokenizer is None:
        return estimate
    try:
        return _exact(tokenizer)
    except ImportError:
        reason = "the extra `tokenizer` is not installed (docs/models.md says how)"
    except Exception as error:  # the library raises a bare Exception for a file it can't read
        reason = f"{tokenizer} can't be used ({type(error).__name__})"
    message = f"CLAWDBOT_CONVERSATION__TOKENIZER: {reason}; tokens are estimated"
    logger.warning("tokenizer.missing", extra={"metadata": {"error": message}})
    return estimate


def _exact(file: Path) -> Counter:
    tokenizers = importlib.import_module("tokenizers")  # an extra
    tokenizer = tokenizers.Tokenizer.from_file(str(file))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)
