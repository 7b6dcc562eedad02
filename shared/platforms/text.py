"""Text and JSON borders: reading what strangers send, cutting what we send."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Mapping
from functools import lru_cache
from itertools import accumulate
from typing import Any

from shared.errors import MalformedError

MAX_ID_CHARS = 256
MAX_DETAIL_CHARS = 200
_MIN_LIFETIME_S = 60
_MAX_LIFETIME_S = 31 * 86400
_MAX_WAIT_S = 3600
_TOKEN = re.compile(r"[!-~]{1,4096}")
#: An address, or a long word of the alphabets of keys with a digit in it.
_TELLING = re.compile(r"\S*://\S*|(?=[A-Za-z_./+=-]*\d)[A-Za-z0-9_./+=-]{16,}")
_MAX_MS = 10**14  #: the year 5138; what lies beyond is no time
_decode = json.JSONDecoder().raw_decode
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_NOT_IN_A_NAME = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
#: Borders to cut at, best first: paragraph, line, sentence, word.
_BORDERS = tuple(
    re.compile(pattern)
    for pattern in (r"\n[ \t]*\n+", r"\n", r"[。！？；…]+[”’」』）]*\s*|[.!?;]\s+", r"[\s，、,]+")
)


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`, UTF-8 only.

    Raises:
        MalformedError: "json": it is anything else.
    """
    try:
        text = body.decode("utf-8")
    except ValueError as error:
        raise MalformedError("json") from error
    return parse_object(text)


def parse_object(text: str) -> dict[str, Any]:
    """The JSON object in `text`.

    Raises:
        MalformedError: "json": it is anything else.
    """
    try:
        value = load_json(text)
    except (ValueError, RecursionError) as error:
        raise MalformedError("json") from error
    if not isinstance(value, dict):
        raise MalformedError("json")
    return value


def load_json(text: str) -> Any:
    """What `json.loads` says, at two thirds of its price for compact JSON, as platforms send it.

    Raises:
        ValueError, RecursionError: as `json.loads`.
    """
    if text[:1] == "{":
        value, end = _decode(text)
        if end == len(text):
            return value
    return json.loads(text)


def object_in(value: Any) -> dict[str, Any]:
    """`value` where an object is expected; an empty one in place of anything else."""
    return value if isinstance(value, dict) else {}


def string_in(value: Any) -> str:
    """`value` where text is expected, lone surrogates replaced; "" in place of anything else."""
    if not isinstance(value, str):
        return ""
    if value.isascii():
        return value
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def id_in(value: Any) -> str:
    """`value` where an id is expected; "" when it can't be one and so must not name anything."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID_CHARS:
        return ""
    return value if value.isprintable() else ""


def name_in(value: Any) -> str:
    """`value` where a name that people chose is expected: one line, without controls."""
    return _NOT_IN_A_NAME.sub(" ", string_in(value)[:MAX_ID_CHARS]).strip()


def ms_in(value: Any) -> int:
    """A time in Unix milliseconds, sent as a number or as a string; 0 when absurd or absent."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return 0
    return value if 0 < value < _MAX_MS else 0


def token_in(value: Any) -> str:
    """An access token fit for a header; "" in place of anything else."""
    return value if isinstance(value, str) and _TOKEN.fullmatch(value) else ""


def lifetime_s_in(value: Any, *, margin_s: int) -> float:
    """How long to use a token that lives `value` seconds: at least a minute; 0 when absurd."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < _MAX_LIFETIME_S:
        return 0.0
    return float(max(_MIN_LIFETIME_S, value - margin_s))


def wait_s_in(headers: Mapping[str, str], *names: str, default_s: float) -> float:
    """The wait in seconds that the first usable header of `names` asks for, an hour at most."""
    for name in names:
        value = headers.get(name, "").strip()
        if value.isascii() and value.isdigit() and len(value) < 10:
            return float(min(max(int(value), 1), _MAX_WAIT_S))
    return default_s


def vendor_detail(words: Any, reference: str = "") -> str:
    """What the platform says about an error, fit for one log line: one line, 200 characters.

    Words that could be an address, a token or a key that it repeats are left out. reference: ours.
    """
    told = _TELLING.sub("…", string_in(words)[: 4 * MAX_DETAIL_CHARS])
    return " ".join(f"{told} {reference}".split())[:MAX_DETAIL_CHARS]


def sendable(text: str) -> str:
    """`text` with plain line ends and without what no chat shows: controls, lone surrogates."""
    return _CONTROLS.sub("", string_in(text).replace("\r\n", "\n").replace("\r", "\n"))


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def compact_json(value: Any) -> str:
    """JSON as the platforms' own SDKs write it: no spaces, Chinese unescaped."""
    return _encode(value)


def split(text: str, limit_bytes: int) -> tuple[str, ...]:
    """`text` cut into parts of at most `limit_bytes` of JSON-escaped UTF-8, in order.

    Cuts at paragraphs, else lines, sentences, words, characters. Only white space at the cuts
    and at the ends is dropped; blank parts are, too, so blank text gives no part at all.
    """
    if len(compact_json(text).encode()) - 2 <= limit_bytes:
        return (text.strip("\n").rstrip(),) if text.strip() else ()
    sums = [0, *accumulate(_cost(character) for character in text)]
    parts, start = [], 0
    while start < len(text):
        end = bisect_right(sums, sums[start] + limit_bytes) - 1
        end = len(text) if end >= len(text) else _border(text, start, max(end, start + 1))
        parts.append(text[start:end].strip("\n").rstrip())
        start = end
    return tuple(part for part in parts if part.strip())


def _border(text: str, start: int, end: int) -> int:
    """The best place to cut text[start:end]; not in its first quarter, or parts get tiny."""
    earliest = start + (end - start) // 4
    for border in _BORDERS:
        cuts = [found.end() for found in border.finditer(text, earliest, end)]
        if cuts:
            return cuts[-1]
    return end


@lru_cache(maxsize=4096)
def _cost(character: str) -> int:
    """Bytes that `character` takes inside a JSON string."""
    return len(json.dumps(character, ensure_ascii=False).encode()) - 2
