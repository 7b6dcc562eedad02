"""One Redis address for two libraries."""

from __future__ import annotations

import pytest
from kombu import Connection
from redis.connection import parse_url

from shared.config import load_settings


@pytest.mark.parametrize(
    ("given", "client", "broker"),
    [
        ("redis://h", "redis://h", "redis://h/0"),
        (" redis://:p%40w@h:7000/3 ", "redis://:p%40w@h:7000/3", "redis://:p%40w@h:7000/3"),
        ("redis://[::1]:7000?db=4", "redis://[::1]:7000?db=4", "redis://[::1]:7000/4"),
        ("rediss://u:p@h/1", "rediss://u:p@h/1", "rediss://u:p@h/1?ssl_cert_reqs=required"),
        (
            "rediss://h/1?ssl_cert_reqs=none",
            "rediss://h/1?ssl_cert_reqs=none",
            "rediss://h/1?ssl_cert_reqs=none",
        ),
        (
            "unix:///run/r.sock",
            "unix:///run/r.sock?db=0",
            "redis+socket:///run/r.sock?virtual_host=0",
        ),
        (
            "unix://:p%2Fw@/run/r.sock?db=2",
            "unix://:p%2Fw@/run/r.sock?db=2",
            "redis+socket://:p%2Fw@/run/r.sock?virtual_host=2",
        ),
        (
            "unix:///run/r.sock?db=2&username=u&password=p%2Fw",
            "unix:///run/r.sock?username=u&password=p%2Fw&db=2",
            "redis+socket://u:p%2Fw@/run/r.sock?virtual_host=2",
        ),
        (
            "redis+socket://:p@/run/r.sock?virtual_host=5",
            "unix://:p@/run/r.sock?db=5",
            "redis+socket://:p@/run/r.sock?virtual_host=5",
        ),
    ],
)
def test_each_library_gets_its_own_dialect(tmp_path, given, client, broker):
    redis = load_settings({"CLAWDBOT_REDIS__URL": given}, cwd=tmp_path).redis

    assert (redis.client_url, redis.broker_url) == (client, broker)


@pytest.mark.parametrize("given", ["redis://u:p%40@h:7000/3", "redis://u:p%40@h:7000?db=3"])
def test_both_libraries_understand_the_same(tmp_path, given):
    redis = load_settings({"CLAWDBOT_REDIS__URL": given}, cwd=tmp_path).redis

    ours = parse_url(redis.client_url)
    theirs = Connection(redis.broker_url).info()

    assert (ours["host"], ours["port"], ours["db"], ours["username"], ours["password"]) == (
        theirs["hostname"],
        theirs["port"],
        int(theirs["virtual_host"]),
        theirs["userid"],
        theirs["password"],
    )
