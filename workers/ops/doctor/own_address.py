"""Where others reach this machine, and whether somebody listens there. Nothing is sent.

Bare sockets: an HTTP call might be a proxy's to make.
"""

from __future__ import annotations

import socket

#: For documentation: nobody has them, but the way there is the way out (RFC 5737, RFC 3849).
_OUTSIDE = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
_TIMEOUT_S = 1.0


def own_addresses() -> list[str]:
    """The addresses that this machine calls others from; none without a network."""
    found = []
    for family, outside in _OUTSIDE:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.connect((outside, 9))  # of UDP: it looks the way up, and sends nothing
                found.append(str(sock.getsockname()[0]))
        except OSError:
            continue
    return found


def is_listened_on(address: str, port: int) -> bool:
    """Whether a connection to it is taken."""
    try:
        socket.create_connection((address, port), _TIMEOUT_S).close()
    except OSError:
        return False
    return True
