"""One Redis address in the two dialects: redis-py's (our clients) and kombu's (Celery).

They differ for unix sockets (`unix:///path?db=1` and `redis+socket:///path?virtual_host=1`) and in
that kombu neither reads `?db=` nor checks a TLS certificate unless it is told to. An address of
sentinels is written as Celery writes it; our clients ask them for the server.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self, TypeVar
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

_TCP = ("redis", "rediss")
_UNIX = ("unix", "redis+socket")
_SENTINEL = "sentinel://"
EXPECTED = (
    "expected redis://, rediss:// or unix:// with a host or a path, and a database number; "
    "or sentinel://host:port;sentinel://host:port/0"
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sentinels:
    """Where the sentinels are, and the login and database at the servers they watch.

    `sentinel://user:password@host:26379/0;sentinel://host:26379`: one part for each sentinel. Login
    and database stand in any part, or in several that agree. The login is the servers' own.
    """

    nodes: tuple[tuple[str, int], ...]
    username: str | None
    password: str | None = field(repr=False)
    database: int

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read the address. Raises ValueError, never repeating it."""
        parts = [_split(part.strip()) for part in url.split(";")]
        logins = ((p.username or "", p.password or "") for p in parts if "@" in p.netloc)
        username, password = _agreed("login", logins) or ("", "")
        database = _agreed("database", (p.path[1:] for p in parts if len(p.path) > 1))
        return cls(
            nodes=tuple((p.hostname or "", p.port or 0) for p in parts),
            username=unquote(username) or None,
            password=unquote(password) or None,
            database=int(database or 0),
        )

    @property
    def broker_url(self) -> str:
        """What Celery's `broker_url` takes. It goes from one part to the next: each says all."""
        return ";".join(
            f"{_SENTINEL}{self._login}{_bracketed(host)}:{port}/{self.database}"
            for host, port in self.nodes
        )

    @property
    def _login(self) -> str:
        if not self.username and not self.password:
            return ""
        return f"{quote(self.username or '', safe='')}:{quote(self.password or '', safe='')}@"


def check(url: str) -> str:
    """`url` without white space around it. Raises ValueError, never repeating the URL."""
    url = url.strip()
    if is_sentinel(url):
        Sentinels.parse(url)
        return url
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


def is_sentinel(url: str) -> bool:
    """Whether `url` names sentinels instead of a server."""
    return url.lower().startswith(_SENTINEL)


def client_url(url: str) -> str:
    """What `redis.Redis.from_url` takes; `url` has passed `check`.

    Raises:
        ValueError: `url` names sentinels, which have to be asked for the server first.
    """
    if is_sentinel(url):
        raise ValueError("sentinel:// is no server's address: connect by `Redis.sentinels`")
    parts = urlsplit(url)
    if parts.scheme in _TCP:
        return url
    query = _other_options(parts.query, "db", "virtual_host")
    query["db"] = _database(url)
    return f"unix://{parts.netloc}{parts.path}?{urlencode(query)}"


def without_login(url: str) -> str:
    """What people may see of it: no user, password or option; `url` has passed `check`."""
    written = url.split(";") if is_sentinel(url) else [url]
    parts = [urlsplit(each.strip()) for each in written]
    return ";".join(f"{p.scheme}://{p.netloc.rpartition('@')[2]}{p.path}" for p in parts)


def broker_url(url: str) -> str:
    """What Celery's `broker_url` takes; `url` has passed `check`."""
    if is_sentinel(url):
        return Sentinels.parse(url).broker_url
    parts = urlsplit(url)
    database = _database(url)
    if parts.scheme in _TCP:
        query = _other_options(parts.query, "db")
        if parts.scheme == "rediss":
            query.setdefault("ssl_cert_reqs", "required")
        options = f"?{urlencode(query)}" if query else ""
        netloc = parts.netloc.replace(";", "%3B")  # where kombu takes the next address to begin
        return f"{parts.scheme}://{netloc}/{database}{options}"
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


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        has_target = is_sentinel(url) and bool(parts.hostname) and bool(parts.port)
    except ValueError:
        raise ValueError(EXPECTED) from None  # the cause would repeat the URL
    if parts.query or parts.fragment:
        raise ValueError("sentinel:// takes no options behind a question mark, and offers no TLS")
    database = parts.path[1:]
    if not has_target or (database and not (database.isascii() and database.isdigit())):
        raise ValueError(EXPECTED)
    return parts


def _agreed(what: str, values: Iterable[T]) -> T | None:
    distinct = set(values)
    if len(distinct) > 1:
        raise ValueError(f"the parts of sentinel:// differ in their {what}; write it once")
    return distinct.pop() if distinct else None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
