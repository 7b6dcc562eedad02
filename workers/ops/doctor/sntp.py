"""The time from an NTP server: one packet there, one back (RFC 4330).

A socket of its own, besides those of `workers/client.py` and of Redis: HTTP can't ask for it.
"""

from __future__ import annotations

import socket
import struct
from urllib.parse import urlsplit

from workers.deadline import Deadline
from workers.resolver import Resolver

PORT = 123
_REQUEST = bytes([0b00_100_011]) + bytes(47)  # version 4, client
_UNIX_EPOCH_S = 2_208_988_800  #: 1970 in NTP's seconds since 1900
_SERVER_MODE = 4


def ask(server: str, timeout_s: float) -> float:
    """Unix seconds by the clock of `server` (host, or host:port), as it answered in this time.

    Raises:
        TaskError: its name can't be resolved, or not in time.
        OSError: it can't be reached, or keeps silent.
        ValueError: what came is no answer of a server that knows the time.
    """
    parts, deadline = urlsplit(f"//{server}"), Deadline(timeout_s)
    family, address = Resolver().resolve(parts.hostname or "", parts.port or PORT, deadline)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(deadline.remaining())
        sock.connect(address)  # answers of others are not seen then
        sock.send(_REQUEST)
        return _sent_at(sock.recv(512))


def _sent_at(packet: bytes) -> float:
    if len(packet) < len(_REQUEST) or packet[0] & 0b111 != _SERVER_MODE or not packet[1]:
        raise ValueError("no answer of a time server")  # stratum 0: it doesn't know, or refuses
    seconds, fraction = struct.unpack_from("!II", packet, 40)
    return float(seconds - _UNIX_EPOCH_S + fraction / 2**32)
