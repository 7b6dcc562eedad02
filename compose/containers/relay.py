"""`python relay.py COMMAND …`: run COMMAND, with the simulator on this container's loopback.

Only loopback addresses may be plain http, in containers too, and the simulator is in a container of
its own: so 127.0.0.1:18790 leads there. When nothing is simulated this only runs COMMAND.
Mounted into the workers by compose.yaml; not in the image.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path

PORT = 18790
SIMULATOR = "simulator"
SETTINGS = Path(".run/env")
_CHUNK_BYTES = 65_536


def main() -> None:
    """Become COMMAND; the relay is its child and ends with the container."""
    if f"127.0.0.1:{PORT}" in SETTINGS.read_text("utf-8"):
        listener = socket.create_server(("127.0.0.1", PORT))
        if os.fork() == 0:
            asyncio.run(serve(listener))
    os.execvp(sys.argv[1], sys.argv[1:])


async def serve(listener: socket.socket) -> None:
    """Relay every connection, for ever."""
    server = await asyncio.start_server(_relay, sock=listener)
    await server.serve_forever()


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A simulator that can't be reached looks like a connection that was cut."""
    try:
        far_reader, far_writer = await asyncio.open_connection(SIMULATOR, PORT)
    except OSError:
        writer.close()
        return
    await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Bytes as they come; either side's end is passed on at once."""
    with suppress(OSError):
        while chunk := await reader.read(_CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
    writer.close()


if __name__ == "__main__":
    main()
