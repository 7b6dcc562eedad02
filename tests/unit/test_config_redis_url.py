"""One Redis address for two libraries."""

from __future__ import annotations

import pytest
from kombu import Connection
from redis.connection import parse_url

from shared.config import load_settings
from shared.config.redis_url import Sentinels, without_login
from shared.errors import ConfigError


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


@pytest.mark.parametrize(
    "given",
    ["redis://u:p%40@h:7000/3", "redis://u:p%40@h:7000?db=3", "redis://u:p;'\"<\\@h:7000/3"],
)
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


@pytest.mark.parametrize(
    "password", [";hush", "'hush", '"hush', "<hush>", "\\hush", "@hush", "%3Bhush"]
)
@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ("redis://u:{}@h:7000/3", "redis://h:7000/3"),
        ("rediss://:{}@[::1]?ssl_ca_certs=/hush", "rediss://[::1]"),
        ("unix://:{}@/run/r.sock?password=hush", "unix:///run/r.sock"),
    ],
)
def test_nobody_sees_the_login_whatever_is_in_it(tmp_path, given, seen, password):
    environ = {"CLAWDBOT_REDIS__URL": given.format(password)}
    settings = load_settings(environ, cwd=tmp_path)

    assert without_login(settings.redis.url.get_secret_value()) == seen


def test_nobody_sees_the_login_of_a_sentinel():
    assert without_login("sentinel://u:hu'sh@a:1 ; sentinel://b:2/3") == (
        "sentinel://a:1;sentinel://b:2/3"
    )


SENTINELS = {"CLAWDBOT_REDIS__MASTER_NAME": "primary"}


@pytest.mark.parametrize(
    ("given", "login", "database"),
    [
        ("sentinel://a:1;sentinel://b:2", (None, None), 0),
        (" sentinel://:p%40%3B@a:1 ; sentinel://b:2/3 ", (None, "p@;"), 3),
        ("sentinel://u%3A:p@a:1/3;sentinel://b:2", ("u:", "p"), 3),
        ("sentinel://u:p@a:1/3;sentinel://u:p@b:2/3", ("u", "p"), 3),
    ],
)
def test_sentinels_are_read_as_celery_reads_them(tmp_path, given, login, database):
    redis = load_settings({"CLAWDBOT_REDIS__URL": given, **SENTINELS}, cwd=tmp_path).redis

    assert redis.sentinels == Sentinels((("a", 1), ("b", 2)), *login, database)
    for url in redis.broker_url.split(";"):  # Celery reads one at a time
        theirs = Connection(url).info()
        assert (theirs["userid"], theirs["password"]) == login
        assert int(theirs["virtual_host"]) == database
    assert Connection(redis.broker_url).transport_cls == "sentinel"


def test_a_sentinels_ipv6_address_keeps_its_brackets(tmp_path):
    given = {"CLAWDBOT_REDIS__URL": "sentinel://[::1]:7000", **SENTINELS}
    redis = load_settings(given, cwd=tmp_path).redis

    assert redis.broker_url == "sentinel://[::1]:7000/0"
    assert redis.sentinels.nodes == (("::1", 7000),)


def test_a_server_has_no_sentinels_and_sentinels_are_no_server(tmp_path):
    given = {"CLAWDBOT_REDIS__URL": "sentinel://a:1", **SENTINELS}

    assert load_settings({}, cwd=tmp_path).redis.sentinels is None
    with pytest.raises(ValueError, match="no server's address"):
        _ = load_settings(given, cwd=tmp_path).redis.client_url


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sentinel://:hush@a:1;redis://b:2", "or sentinel://host:port;"),
        ("sentinel://:hush@a:1;sentinel://b", "or sentinel://host:port;"),
        ("sentinel://:hush@a:1;", "or sentinel://host:port;"),
        ("sentinel://:hush@a:port", "or sentinel://host:port;"),
        ("sentinel://:hush@a:1/db", "or sentinel://host:port;"),
        ("sentinel://:hush@a:1/0?ssl_cert_reqs=none", "offers no TLS"),
        ("sentinel://:hush@a:1;sentinel://:hush2@b:2", "differ in their login"),
        ("sentinel://:hush@a:1/1;sentinel://b:2/2", "differ in their database"),
    ],
)
def test_wrong_sentinels_are_told_without_the_password(tmp_path, url, told):
    with pytest.raises(ConfigError) as caught:
        load_settings({"CLAWDBOT_REDIS__URL": url, **SENTINELS}, cwd=tmp_path)

    (problem,) = caught.value.problems
    assert problem.startswith("CLAWDBOT_REDIS__URL")
    assert told in problem
    assert "hush" not in problem


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"URL": "sentinel://a:1"}, "CLAWDBOT_REDIS__MASTER_NAME: is not set, but needed"),
        ({"MASTER_NAME": "primary"}, "CLAWDBOT_REDIS__MASTER_NAME (environment): is only for"),
        ({"SENTINEL_PASSWORD": "x"}, "CLAWDBOT_REDIS__SENTINEL_PASSWORD (environment): is only"),
    ],
)
def test_the_sentinels_settings_go_together(tmp_path, environ, told):
    with pytest.raises(ConfigError) as caught:
        load_settings({f"CLAWDBOT_REDIS__{k}": v for k, v in environ.items()}, cwd=tmp_path)

    (problem,) = caught.value.problems
    assert problem.startswith(told)
