"""What a name server says is no answer where no API can be."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from shared.errors import NotSentError
from workers.deadline import Deadline
from workers.resolver import Resolver

FORBIDDEN = [
    "169.254.169.254",
    "169.254.0.23",
    "100.100.100.200",
    "0.0.0.0",
    "224.0.0.1",
    "fe80::1",
    "fe80::1%eth0",
    "::",
    "ff02::1",
    "fd00:ec2::254",
    "::ffff:169.254.169.254",
    "::ffff:100.100.100.200",
    "::ffff:0.0.0.0",
]
#: Where operators have models, proxies and databases of their own.
ALLOWED = ["127.0.0.1", "::1", "10.1.2.3", "192.168.0.9", "172.16.0.1", "fd12::1", "203.0.113.7"]


def resolver(*addresses: str) -> Resolver:
    def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        return [
            (socket.AF_INET6 if ":" in each else socket.AF_INET, 1, 6, "", (each, port))
            for each in addresses
        ]

    return Resolver(getaddrinfo)


@pytest.mark.parametrize("address", FORBIDDEN)
def test_a_name_that_leads_to_no_api_does_not_resolve(address: str) -> None:
    with pytest.raises(NotSentError, match="can't resolve the host name api"):
        resolver(address).resolve("api.example", 443, Deadline(total_s=5))


@pytest.mark.parametrize("address", FORBIDDEN)
def test_what_else_the_name_has_is_used(address: str) -> None:
    found = resolver(address, "203.0.113.7").resolve("api.example", 443, Deadline(total_s=5))

    assert [each[1][0] for each in found] == ["203.0.113.7"]


@pytest.mark.parametrize("address", ALLOWED)
def test_loopback_and_private_networks_are_the_operators_own(address: str) -> None:
    found = resolver(address).resolve("model.internal", 443, Deadline(total_s=5))

    assert [each[1][0] for each in found] == [address]
