"""Name resolution that a deadline can end: `getaddrinfo` itself can't be interrupted.

Which hosts are called is the settings' decision, and TLS proves that it is them. A name server
that lies must all the same not lead us to where a cloud hands out a machine's credentials:
addresses that no API has are no answer.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from shared.errors import NotSentError
from workers.deadline import Deadline

CACHE_S = 60.0  #: how long an answer is used again; failures are not kept

#: Address family and the address as `socket.connect` takes it.
Address = tuple[int, tuple[Any, ...]]
Lookup = Callable[..., list[Any]]

#: Metadata services outside of the link-local networks: Alibaba Cloud's, Amazon's, Google's.
#: https://www.alibabacloud.com/help/en/ecs/user-guide/view-instance-metadata
METADATA = frozenset(
    map(ipaddress.ip_address, ("100.100.100.200", "fd00:ec2::254", "fd20:ce::254"))
)


class Resolver:
    """Looks a name up in a daemon thread of its own; callers of one name share one look-up.

    getaddrinfo: what to ask; None: `socket.getaddrinfo`.
    """

    def __init__(
        self, getaddrinfo: Lookup | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._getaddrinfo = getaddrinfo or socket.getaddrinfo
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[tuple[str, int], tuple[float, list[Address]]] = {}
        self._pending: dict[tuple[str, int], Future[list[Address]]] = {}

    def resolve(self, host: str, port: int, deadline: Deadline) -> list[Address]:
        """The addresses of `host`, best first; never empty.

        Raises:
            NotSentError: there is no such name, or none that an API can have, or the name servers
                fail
            DeadlineError: no answer in time
        """
        literal = _literal(host, port)
        if literal is not None:
            return [literal]
        with self._lock:
            until, addresses = self._known.get((host, port), (0.0, []))
            if addresses and self._clock() < until:
                return addresses
            answer = self._pending.get((host, port)) or self._start(host, port)
        try:
            return answer.result(timeout=deadline.remaining())
        except TimeoutError:
            raise deadline.error() from None
        except (OSError, UnicodeError) as error:
            raise NotSentError("http:dns", f"can't resolve the host name {host}") from error

    def _start(self, host: str, port: int) -> Future[list[Address]]:
        answer: Future[list[Address]] = Future()
        thread = threading.Thread(
            target=self._look_up, args=(host, port, answer), name="resolver", daemon=True
        )
        thread.start()
        self._pending[host, port] = answer  # under the caller's lock, so before the thread's end
        return answer

    def _look_up(self, host: str, port: int, answer: Future[list[Address]]) -> None:
        addresses: list[Address] = []
        failure: OSError | UnicodeError | None = None
        try:
            found = self._getaddrinfo(host, port, type=socket.SOCK_STREAM)
            addresses = [(each[0], each[4]) for each in found if not _is_forbidden(str(each[4][0]))]
        except (OSError, UnicodeError) as error:  # UnicodeError: a label too long for IDNA
            failure = error
        with self._lock:
            self._pending.pop((host, port), None)
            if addresses:
                self._known[host, port] = (self._clock() + CACHE_S, addresses)
        if addresses:
            answer.set_result(addresses)
        else:
            answer.set_exception(failure or OSError("no address"))


def _is_forbidden(text: str) -> bool:
    """Whether no API can be there: link-local (with most metadata services), nobody's, everybody's.

    Loopback and private networks are where operators have their own.
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    no_host = address.is_link_local or address.is_unspecified or address.is_multicast
    return no_host or address in METADATA


def _literal(host: str, port: int) -> Address | None:
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return socket.AF_INET, (str(address), port)
    if address.scope_id is None:
        return socket.AF_INET6, (str(address), port, 0, 0)
    return None  # a scope (fe80::1%eth0) has to be looked up
