"""Where a call really comes from: its peer, or what trusted proxies say of it.

`X-Forwarded-For` is believed only when the peer is one of `security.trusted_proxies`, and only as
far as trusted proxies wrote it: read from the right, the first address that is not one of theirs is
the client's. What stands left of that a stranger may have made up. Other headers are not read: with
two of them a stranger could use the one that the proxy passes on untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address

from aiohttp import web

from shared.networks import Address, Networks, read_address

FORWARDED_FOR = "X-Forwarded-For"
MAX_HOPS = 16
MAX_HOP_CHARS = 64  #: an IPv6 address in full with zone, brackets and port has fewer
REMEMBERED = 8192  #: addresses that were read already


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls.

    address: None where there is none: a Unix socket, or words that a proxy could not be believed.
    name: the same, for logs. group: by which calls are counted; people have a /64 of IPv6 each.
    """

    address: Address | None
    name: str
    group: str


UNIX = Caller(None, "unix", "unix")
UNKNOWN = Caller(None, "unknown", "unknown")

#: How the application tells who sent a request.
CALLER_OF: web.AppKey[Callable[[web.BaseRequest], Caller]] = web.AppKey("caller_of")


def client_address(request: web.Request) -> str:
    """The address a call came from, as far as it can be believed; or "unix", "unknown"."""
    return request.app[CALLER_OF](request).name


def is_forwarded(request: web.BaseRequest) -> bool:
    """Whether somebody says, believed or not, that he calls for another."""
    return FORWARDED_FOR in request.headers


class Addresses:
    """Tells callers, as long as these proxies are the trusted ones."""

    def __init__(self, trusted: Networks) -> None:
        self._trusted = trusted
        self._has_proxies = bool(trusted)

    def of(self, request: web.BaseRequest) -> Caller:
        """Who sent this call."""
        peer = peer_of(request.remote)
        if not self._has_proxies or not self.trusts(peer):
            return peer
        return self._behind(peer, request.headers.getall(FORWARDED_FOR, ()))

    def trusts(self, caller: Caller) -> bool:
        """Whether it is a proxy whose word is taken."""
        return caller.address is not None and caller.address in self._trusted

    def _behind(self, peer: Caller, headers: Sequence[str]) -> Caller:
        """A proxy without a word about its client, a health check for instance, is the client."""
        nearest = peer
        for distance, hop in enumerate(_from_the_right(headers)):
            nearest = _read_hop(hop) if len(hop) <= MAX_HOP_CHARS else UNKNOWN
            if not self.trusts(nearest):
                return nearest
            if distance >= MAX_HOPS:
                return UNKNOWN
        return nearest


def peer_of(name: str | None) -> Caller:
    """The other end of a connection, by its name: an address, or "" over a Unix socket."""
    if name is None:
        return UNKNOWN  # it has hung up
    return _read(name) if name and not name.startswith("/") else UNIX


def _from_the_right(headers: Sequence[str]) -> Iterator[str]:
    """The entries of all headers, last first; empty ones mean nothing (RFC 9110, 5.6.1)."""
    for header in reversed(headers):
        rest, comma = header, ","
        while comma:
            rest, comma, hop = rest.rpartition(",")
            if hop := hop.strip():
                yield hop


@lru_cache(maxsize=REMEMBERED)
def _read_hop(hop: str) -> Caller:
    """An entry of the header: an address, in brackets or not, with a port or without."""
    host = hop
    if hop.startswith("["):
        host, bracket, port = hop[1:].partition("]")
        if not bracket or ":" not in host or not _is_port_or_nothing(port):
            return UNKNOWN
    elif hop.count(":") == 1:
        host, _, port = hop.partition(":")
        if not _is_port_or_nothing(f":{port}"):
            return UNKNOWN
    return _read(host)


def _is_port_or_nothing(text: str) -> bool:
    digits = text[1:]
    return not text or (text[0] == ":" and digits.isascii() and digits.isdigit())


@lru_cache(maxsize=REMEMBERED)
def _read(text: str) -> Caller:
    address = read_address(text)
    if address is None:
        return UNKNOWN
    name = str(address)
    if isinstance(address, IPv6Address):
        return Caller(address, name, str(IPv6Address(int(address) >> 64 << 64)) + "/64")
    return Caller(address, name, name)
