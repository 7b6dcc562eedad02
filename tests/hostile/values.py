"""Values that nobody expects where they stand, as JSON text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DEEP = 500  #: still read by Python's parser
TOO_DEEP = 100_000  #: beyond its recursion limit
MAX_DIGITS = 4300  #: of an integer: CPython's own limit


@dataclass(frozen=True, slots=True)
class Value:
    """text: as it stands in the JSON. is_readable: the whole body still is JSON for us."""

    text: str
    is_readable: bool = True

    def decoded(self) -> Any:
        """What a parser makes of it; of one that is readable."""
        return json.loads(self.text)


def _string(text: str) -> Value:
    return Value(json.dumps(text))


_LITERALS = {
    "null": "null",
    "true": "true",
    "false": "false",
    "zero": "0",
    "minus zero": "-0",
    "minus one": "-1",
    "a fraction": "1.5",
    "a huge float": "1e308",
    "more than a float": "1e999",
    "less than a float": "-1e999",
    "a tiny float": "1e-999",
    "NaN": "NaN",
    "Infinity": "Infinity",
    "minus Infinity": "-Infinity",
    "64 bits and one": str(2**64),
    "a thirty-digit number": str(10**30),
    "a 400-digit number": "1" + "0" * 400,
    "a fraction of 5000 digits": "0." + "1" * 5000,
    "an empty list": "[]",
    "a list of null": "[null]",
    "nested lists": "[[[[]]]]",
    "a list of ten thousand": "[" + "0," * 9999 + "0]",
    "an empty object": "{}",
    "an object": '{"a":[]}',
    "an object with itself": '{"text":{"content":{"content":{}}}}',
    "an object with a prototype": '{"__proto__":{"admin":true},"__class__":"x"}',
    "an object with one key twice": '{"content":1,"content":[]}',
    "lists nested deeply": "[" * DEEP + "]" * DEEP,
    "objects nested deeply": '{"a":' * DEEP + "1" + "}" * DEEP,
}
_STRINGS = {
    "nothing": "",
    "a space": " ",
    "white space": "\t\r\n \u3000\u00a0",
    "a NUL": "\x00",
    "control characters": "\x01\x1b[31m\x7f\x85",
    "a high surrogate": "\ud800",
    "a low surrogate": "\udfff",
    "surrogates in disorder": "\udc00\ud800",
    "a noncharacter": "\ufffe\uffff",
    "a byte order mark": "\ufeff",
    "text that turns around": "\u202e\u2066evil",
    "a joined emoji": "👩‍👩‍👧‍👦" * 20,
    "a letter with 5000 accents": "Z" + "\u0301" * 5000,
    "300 characters": "x" * 300,
    "100 000 characters": "x" * 100_000,
    "a number": "17",
    "words for true": "true",
    "a word for nothing": "null",
    "colons": "a:b:c",
    "braces": "{a}{{7*7}}${jndi:ldap://x}",
    "percent signs": "%s%n%x%00",
    "a path": "../../../../etc/passwd",
    "a header": "x\r\nSet-Cookie: a=b\r\n\r\n",
    "SQL": "'; DROP TABLE events; --",
    "Lua": "]] redis.call('FLUSHALL') --[[",
    "RESP": "*1\r\n$8\r\nFLUSHALL\r\n",
    "a script": "<script>alert(1)</script>",
    "JSON": '{"text":1',
    "JSON in JSON": json.dumps(json.dumps({"a": 1})),
}
VALUES: Mapping[str, Value] = {
    **{name: Value(text) for name, text in _LITERALS.items()},
    **{f"text: {name}": _string(text) for name, text in _STRINGS.items()},
    "a number of 5000 digits": Value("9" * (MAX_DIGITS + 700), is_readable=False),
    "lists nested too deeply": Value("[" * TOO_DEEP + "]" * TOO_DEEP, is_readable=False),
    "objects nested too deeply": Value('{"a":' * TOO_DEEP + "1" + "}" * TOO_DEEP, False),
    "a word that is no value": Value("undefined", is_readable=False),
    "an open string": Value('"', is_readable=False),
    "an open list": Value("[1", is_readable=False),
    "a bad escape": Value('"\\x41"', is_readable=False),
    "a hexadecimal number": Value("0x10", is_readable=False),
    "a number with a plus": Value("+1", is_readable=False),
}


def is_id(value: Any) -> bool:
    """What may name a message or a chat."""
    return isinstance(value, str) and 0 < len(value) <= 256 and value.isprintable()


def is_words(value: Any) -> bool:
    """What can be answered."""
    return isinstance(value, str) and bool(value.strip())
