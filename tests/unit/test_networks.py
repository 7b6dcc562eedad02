"""Addresses and networks, however they are written."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.networks import Networks, read_address, read_network


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:c000:201", "192.0.2.1"),
        ("0:0:0:0:0:ffff:192.0.2.1", "192.0.2.1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:192.0.2.1%eth0", "192.0.2.1"),
        ("::192.0.2.1", "::c000:201"),
    ],
)
def test_one_address_is_read_from_all_its_spellings(text: str, address: str) -> None:
    assert read_address(text) == ip_address(address)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            "localhost",
            "192.0.2",
            "192.0.2.1.1",
            "192.0.2.256",
            "192.0.2.01",
            "0x7f000001",
        ),
        *(
            "2130706433",
            "192.0.2.1 ",
            " 192.0.2.1",
            "192.0.2.1:80",
            "[2001:db8::1]",
            "192.0.2.1%eth0",
        ),
        *(
            "192.0.2.1/32",
            "::g",
            "1::2::3",
            ":::",
            "١٩٢.0.2.1",
            "192。0。2。1",
            "\x00",
            "-",
            "fe80::1%",
        ),
    ],
)
def test_what_is_no_address_is_none(text: str) -> None:
    assert read_address(text) is None


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("192.0.2.1", "192.0.2.1/32"),
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("192.0.2.0/255.255.255.0", "192.0.2.0/24"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
    ],
)
def test_a_network_is_read_and_ipv4_inside_ipv6_is_ipv4(text: str, network: str) -> None:
    assert read_network(text) == ip_network(network)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("192.0.2.1/24", "clear the bits behind the prefix"),
        ("2001:db8::1/32", "clear the bits behind the prefix"),
        ("fe80::%eth0/64", "zone"),
        ("192.0.2.0/33", "neither an address nor a network"),
        ("example.org", "neither an address nor a network"),
        ("", "neither an address nor a network"),
        ("192.0.2.0-192.0.2.9", "neither an address nor a network"),
    ],
)
def test_what_is_no_network_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_network(text)


ADDRESSES = st.ip_addresses().map(lambda address: read_address(str(address)))


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(ADDRESSES, st.lists(st.tuples(ADDRESSES, st.integers(0, 128)), max_size=8))
def test_a_set_of_networks_holds_what_one_of_them_holds(address, ends) -> None:
    networks = [ip_network((each, min(n, each.max_prefixlen)), strict=False) for each, n in ends]

    found = address in Networks(str(network) for network in networks)

    assert found == any(
        address in network for network in networks if network.version == address.version
    )


def test_all_of_ipv6_is_not_all_of_ipv4() -> None:
    assert read_address("::ffff:192.0.2.1") not in Networks(["::/0"])
    assert read_address("::ffff:192.0.2.1") in Networks(["0.0.0.0/0"])


def test_an_empty_set_says_so() -> None:
    assert not Networks()
    assert Networks(["192.0.2.1"])
