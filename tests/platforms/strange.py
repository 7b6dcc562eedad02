"""Strange values and bodies, for every room."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

#: Deterministic, and without a time limit: the machine may be busy.
property_test = settings(max_examples=60, deadline=None, derandomize=True, database=None)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=12,
)
#: Values that have broken parsers before.
ODD = st.sampled_from(
    [
        *(None, True, 0, -1, 10**400, 1.5, float("nan"), [], [None], {}, {"text": 1}),
        *("", " ", "\x00", "\ud800", "a\ud83d", "x" * 300),
        *('{"text":', '{"text":"\\ud800"}', "[" * 5000),
    ]
)
HOSTILE_BODIES = [
    b"",
    b"\xff\xfe",
    b"null",
    b"[]",
    b'"x"',
    b"NaN",
    b"1" * 5000,
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b"{}",
    b"\xef\xbb\xbf{}",
    b'{"encrypt":{}}',
    b'{"encrypt":""}',
    '{"a":1}'.encode("utf-16"),
]
WORDS = st.text(
    st.sampled_from('ab \n\n。！, \t"\\<>@/汉字🙂\x00\r') | st.characters(), max_size=400
)


def dumped(value: Any) -> bytes:
    return json.dumps(value).encode()
