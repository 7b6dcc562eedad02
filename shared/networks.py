"""Addresses and networks as people write them. IPv4 written inside IPv6 is IPv4."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_MAPPED = IPv6Network("::ffff:0:0/96")


def read_address(text: str) -> Address | None:
    """The address, without the zone it may have (`fe80::1%eth0`); None when it is none."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return IPv6Address(int(address)) if address.scope_id else address


def read_network(text: str) -> Network:
    """The network; an address is one of its own.

    Raises:
        ValueError: it is none; a sentence's end that says why, without the text.
    """
    try:
        network = ip_network(text)
    except ValueError as error:
        raise ValueError(_fault(text)) from error
    if isinstance(network, IPv4Network):
        return network
    if "%" in text:
        raise ValueError("has a zone, which a network can't have")
    if network.subnet_of(_MAPPED):
        inner = int(network.network_address) & 0xFFFFFFFF
        return IPv4Network((inner, network.prefixlen - _MAPPED.prefixlen))
    return network


def _fault(text: str) -> str:
    try:
        ip_network(text, strict=False)
    except ValueError:
        return "is neither an address nor a network like 192.0.2.0/24 or 2001:db8::/32"
    return "is an address with a prefix: clear the bits behind the prefix, or leave the prefix out"


class Networks:
    """A set of networks. Asking it takes about as long for a hundred as for one.

    Those of one prefix length are a set of their leading bits.
    """

    def __init__(self, networks: Iterable[str] = ()) -> None:
        """Raises: ValueError, as `read_network`."""
        heads: dict[type, dict[int, set[int]]] = {
            IPv4Address: defaultdict(set),
            IPv6Address: defaultdict(set),
        }
        for network in map(read_network, networks):
            first = network.network_address
            shift = network.max_prefixlen - network.prefixlen
            heads[type(first)][shift].add(int(first) >> shift)
        self._heads = {kind: tuple(found.items()) for kind, found in heads.items()}

    def __bool__(self) -> bool:
        return any(self._heads.values())

    def __contains__(self, address: Address) -> bool:
        """`address` as `read_address` gives it."""
        value = int(address)
        return any(value >> shift in heads for shift, heads in self._heads[type(address)])
