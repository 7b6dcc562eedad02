"""All that a Redis holds, as bytes to search in: keys and values of every type."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import redis

Read = Callable[[redis.Redis, bytes], Any]

READ: Mapping[bytes, Read] = {
    b"string": lambda client, key: client.get(key),
    b"hash": lambda client, key: client.hgetall(key),
    b"list": lambda client, key: client.lrange(key, 0, -1),
    b"set": lambda client, key: client.smembers(key),
    b"zset": lambda client, key: client.zrange(key, 0, -1),
    b"stream": lambda client, key: client.xrange(key),
}


def content(url: str) -> Iterator[tuple[str, bytes]]:
    """Each key's name, and its name and value in bytes. A key that ends meanwhile is left out."""
    with redis.Redis.from_url(url) as client:
        for key in client.scan_iter():
            kind = client.type(key)
            if kind != b"none":
                yield (
                    key.decode("utf-8", "replace"),
                    b"\n".join([key, *flat(READ[kind](client, key))]),
                )


def flat(value: Any) -> Iterator[bytes]:
    """The texts in nested replies, keys of mappings too."""
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, Mapping):
        yield from flat(value.items())
    elif isinstance(value, Iterable):
        for each in value:
            yield from flat(each)
