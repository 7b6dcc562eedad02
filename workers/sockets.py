"""What the kernel knows of a socket, asked past gevent."""

from __future__ import annotations

import select
import socket
import sys


def is_readable(sock: socket.socket) -> bool:
    """An idle connection that has something to read was closed by its server, or is out of step.

    gevent's `poll` starts a watcher of its loop and waits for it, thirty times as dear: measured on
    connections to Redis alone, 6 % of a stage.
    """
    monkey = sys.modules.get("gevent.monkey")
    poll = (monkey.get_original("select", "poll") if monkey else select.poll)()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))
