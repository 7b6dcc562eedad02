"""Every port is checked before anything starts, and a taken one says which setting moves it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from compose.local import ports
from compose.local.ports import Port


@pytest.fixture
def listener() -> Iterator[int]:
    """A loopback port on which this very process listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(1)
        yield sock.getsockname()[1]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_taken_port_names_the_setting_and_the_holder(listener: int, host: str) -> None:
    (problem,) = ports.problems([Port("UP_FLOWER_PORT", host, listener)])

    assert problem.startswith(f"UP_FLOWER_PORT: port {listener} is taken by pid {os.getpid()} (")
    assert "set UP_FLOWER_PORT to a free port" in problem


def test_free_ports_are_no_problem() -> None:
    assert ports.problems([Port("A", "127.0.0.1", free_port()), Port("B", "", free_port())]) == []


def test_every_taken_port_is_told_at_once(listener: int) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)
        wanted = [Port("A", "127.0.0.1", listener), Port("B", "", other.getsockname()[1])]

        assert [problem[:2] for problem in ports.problems(wanted)] == ["A:", "B:"]


def test_two_settings_with_one_port_are_named() -> None:
    number = free_port()

    assert ports.problems([Port("A", "127.0.0.1", number), Port("B", "127.0.0.1", number)]) == [
        f"A and B are both {number}; change one of them"
    ]


def test_an_address_of_another_machine_is_explained() -> None:
    (problem,) = ports.problems([Port("CLAWDBOT_PORT", "192.0.2.1", free_port())])

    assert problem.startswith("CLAWDBOT_PORT: can't listen on 192.0.2.1:")


def test_holder_of_a_free_port_is_unknown() -> None:
    assert ports.holder(free_port()) == ""


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:8"),
        ("127.0.0.1", "http://127.0.0.1:8"),
        ("::", "http://[::1]:8"),
        ("10.1.2.3", "http://10.1.2.3:8"),
    ],
)
def test_url_is_one_that_this_machine_can_open(host: str, url: str) -> None:
    assert Port("A", host, 8).url == url
