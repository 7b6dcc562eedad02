"""All that a Redis holds, in one call, and what of it a repeated script may change."""

from __future__ import annotations

from typing import Any

import redis

from shared.state import keys

DUMP = """
local read = {
  hash = function(key) return redis.call('HGETALL', key) end,
  list = function(key) return redis.call('LRANGE', key, 0, -1) end,
  zset = function(key) return redis.call('ZRANGE', key, 0, -1, 'WITHSCORES') end,
  string = function(key) return redis.call('GET', key) end,
  set = function(key) return redis.call('SCARD', key) end,
}
local found = {}
for i, key in ipairs(redis.call('KEYS', '*')) do
  local kind = redis.call('TYPE', key).ok
  found[i] = {key, kind, read[kind](key)}
end
local t = redis.call('TIME')
return {t[1] * 1000 + math.floor(t[2] / 1000), found}
"""


class Dump:
    """Called: Redis's time in ms, and every key; hashes and sorted sets as dicts."""

    def __init__(self, client: redis.Redis) -> None:
        self._script = client.register_script(DUMP)

    def __call__(self) -> tuple[int, dict[str, Any]]:
        now, found = self._script()
        pairs = ("hash", "zset")
        return now, {
            key: dict(zip(value[::2], value[1::2], strict=True)) if kind in pairs else value
            for key, kind, value in found
        }


def lasting(content: dict[str, Any]) -> dict[str, Any]:
    """Everything but what may differ between two sendings: times to look, leases' ends."""
    content = {key: value for key, value in content.items() if key != keys.ACTIVE}
    content[keys.DUE] = sorted(content.get(keys.DUE, ()))
    for key, value in content.items():
        if key.endswith(":state"):
            value.pop("lease", None)
    return content


def timeless(answer: Any) -> Any:
    """The answer without what a claim tells of Redis's time, and with its record in order."""
    if not isinstance(answer, list):
        return answer
    if answer[:1] == ["claimed"]:
        *facts, _, record, history = answer
        return [*facts, sorted(zip(record[::2], record[1::2], strict=True)), history]
    return [timeless(each) for each in answer]
