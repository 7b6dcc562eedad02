"""Who is believed to call: peers, proxies, and what strangers write into headers."""

from __future__ import annotations

from typing import Any

import pytest
from multidict import CIMultiDict

from ingress.addresses import MAX_HOPS, Addresses, peer_of
from shared.networks import Networks

PROXY = "10.0.0.7"
TRUSTED = Addresses(Networks(["10.0.0.0/8", "2001:db8:ffff::/48"]))


class Call:
    """What `Addresses` reads of a request."""

    def __init__(self, remote: str | None, *forwarded: str, **others: str) -> None:
        self.remote = remote
        self.headers = CIMultiDict([("x-forwarded-for", value) for value in forwarded])
        self.headers.update({name.replace("_", "-"): value for name, value in others.items()})


def name_of(addresses: Addresses, *call: Any, **others: str) -> str:
    return addresses.of(Call(*call, **others)).name  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("remote", "name"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("", "unix"),
        ("/run/clawdbot.sock", "unix"),
        (None, "unknown"),
        ("nonsense", "unknown"),
    ],
)
def test_without_proxies_the_peer_is_the_caller(remote: str | None, name: str) -> None:
    nobody = Addresses(Networks())

    assert name_of(nobody, remote) == name
    assert name_of(nobody, remote, "198.51.100.1") == name


@pytest.mark.parametrize("remote", ["192.0.2.1", "11.0.0.1", "", None, "2001:db8:fffe::1"])
def test_a_peer_that_is_not_listed_is_not_believed(remote: str | None) -> None:
    assert name_of(TRUSTED, remote, "198.51.100.1") == peer_of(remote).name


@pytest.mark.parametrize(
    ("forwarded", "name"),
    [
        (["198.51.100.1"], "198.51.100.1"),
        (["198.51.100.1:4711"], "198.51.100.1"),
        (["[2001:db8::1]:4711"], "2001:db8::1"),
        (["[2001:db8::1]"], "2001:db8::1"),
        (["2001:db8::1"], "2001:db8::1"),
        (["[fe80::1%eth0]:80"], "fe80::1"),
        (["::ffff:198.51.100.1"], "198.51.100.1"),
        (["[::ffff:198.51.100.1]:80"], "198.51.100.1"),
        ([" \t198.51.100.1 "], "198.51.100.1"),
        (["198.51.100.1,,"], "198.51.100.1"),
        (["203.0.113.9, 198.51.100.1"], "198.51.100.1"),
        (["203.0.113.9, 198.51.100.1, 10.1.2.3"], "198.51.100.1"),
        (["203.0.113.9", "198.51.100.1, 10.1.2.3", "2001:db8:ffff::2"], "198.51.100.1"),
        (["nonsense, 198.51.100.1, 10.1.2.3"], "198.51.100.1"),
        (["10.0.0.1, 10.0.0.2"], "10.0.0.1"),
        ([], PROXY),
        ([""], PROXY),
        ([" , "], PROXY),
    ],
)
def test_behind_trusted_proxies_the_nearest_stranger_is_the_caller(
    forwarded: list[str], name: str
) -> None:
    assert name_of(TRUSTED, PROXY, *forwarded) == name
    assert name_of(TRUSTED, f"::ffff:{PROXY}", *forwarded) == name


@pytest.mark.parametrize(
    "hop",
    [
        *("unknown", "_hidden", "localhost", "198.51.100.1:", "198.51.100.1:x", "198.51.100.1:-1"),
        *("[198.51.100.1]", "[2001:db8::1", "2001:db8::1]:80", "[2001:db8::1]80", "[]", "[]:80"),
        *("198.51.100.1;", '"198.51.100.1"', "for=198.51.100.1", "198.51.100.1/32", "0x0a000001"),
        *(
            "198.51.100.1 10.0.0.1",
            "198.51.100.٣",
            "\udc80",
            "\x00",
            "a" * 8000,
            "198.51.100.1" * 9,
        ),
    ],
)
def test_words_that_are_no_address_make_the_caller_unknown(hop: str) -> None:
    caller = TRUSTED.of(Call(PROXY, f"10.0.0.1, {hop}"))  # type: ignore[arg-type]

    assert (caller.name, caller.address) == ("unknown", None)


def test_a_chain_that_never_ends_is_not_followed() -> None:
    trusted = ",".join(["10.0.0.1"] * (MAX_HOPS + 2))

    assert name_of(TRUSTED, PROXY, f"198.51.100.1,{trusted}") == "unknown"


@pytest.mark.parametrize("header", ["Forwarded", "X_Real_IP", "True_Client_IP", "CF_Connecting_IP"])
def test_no_other_header_is_read(header: str) -> None:
    others = {header: "198.51.100.1"}

    assert name_of(TRUSTED, PROXY, **others) == PROXY


def test_calls_are_counted_by_address_and_by_64_bits_of_ipv6() -> None:
    assert peer_of("192.0.2.1").group != peer_of("192.0.2.2").group
    assert peer_of("2001:db8::1").group == peer_of("2001:db8::ffff:1").group
    assert peer_of("2001:db8::1").group != peer_of("2001:db8:0:1::1").group
    assert peer_of("::ffff:192.0.2.1").group == peer_of("192.0.2.1").group
