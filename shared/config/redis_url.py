"""One Redis address in the two dialects: redis-py's (our clients) and kombu's (Celery).

They differ for unix sockets (`unix:///path?db=1` and `redis+socket:///path?virtual_host=1`) and in
that kombu neither reads `?db=` nor checks a TLS certificate unless it is told to.
"""

from __future__ import annotations

from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

_TCP = ("redis", "rediss")
_UNIX = ("unix", "redis+socket")
EXPECTED = "expected redis://, rediss:// or unix:// with a host or a path, and a database number"


def check(url: str) -> str:
    """`url` without white space around it. Raises ValueError, never repeating the URL."""
    url = url.strip()
    try:
        parts = urlsplit(url)
        has_target = bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise ValueError(EXPECTED) from None  # the cause would repeat the URL
    database = _database(url)
    if parts.scheme in _UNIX:
        has_target = not parts.hostname and len(parts.path) > 1
    elif parts.scheme not in _TCP:
        raise ValueError(EXPECTED)
    if not has_target or not (database.isascii() and database.isdigit()):
        raise ValueError(EXPECTED)
    return url


def client_url(url: str) -> str:
    """What `redis.Redis.from_url` takes; `url` has passed `check`."""
    parts = urlsplit(url)
    if parts.scheme in _TCP:
        return url
    query = _other_options(parts.query, "db", "virtual_host")
    query["db"] = _database(url)
    return f"unix://{parts.netloc}{parts.path}?{urlencode(query)}"


def broker_url(url: str) -> str:
    """What Celery's `broker_url` takes; `url` has passed `check`."""
    parts = urlsplit(url)
    database = _database(url)
    if parts.scheme in _TCP:
        query = _other_options(parts.query, "db")
        if parts.scheme == "rediss":
            query.setdefault("ssl_cert_reqs", "required")
        options = f"?{urlencode(query)}" if query else ""
        return f"{parts.scheme}://{parts.netloc}/{database}{options}"
    query = _other_options(parts.query, "db", "virtual_host", "username", "password")
    query["virtual_host"] = database
    return f"redis+socket://{_credentials(url)}{parts.path}?{urlencode(query)}"


def _database(url: str) -> str:
    """The database's number as written, "0" if none is."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    if parts.scheme in _UNIX:
        return query.get("db") or query.get("virtual_host") or "0"
    return query.get("db") or unquote(parts.path).strip("/") or "0"


def _credentials(url: str) -> str:
    """`user:password@` of a unix address; kombu reads them from there alone."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    user = unquote(parts.username or "") or query.get("username", "")
    password = unquote(parts.password or "") or query.get("password", "")
    if not user and not password:
        return ""
    return f"{quote(user, safe='')}:{quote(password, safe='')}@"


def _other_options(query: str, *without: str) -> dict[str, str]:
    return {name: value for name, value in parse_qsl(query) if name not in without}
