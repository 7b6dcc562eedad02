"""Servers on plain sockets that misbehave in one way each. No HTTP library: the bytes are the test.

A behaviour is a function of one accepted connection; it runs in a thread of its own. Under gevent
(everything patched before this is imported) the threads are greenlets.
"""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Behaviour = Callable[[socket.socket], None]

DRIP_S = 0.05
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
EVENT_STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)


class Server:
    """`requests` holds the head and body of every request that came in whole."""

    def __init__(self, behave: Behaviour, host: str = "127.0.0.1") -> None:
        self._behave = behave
        self._listener = socket.create_server((host, 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self.closed = threading.Event()  # some connection was ended by the client
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/send?access_token=secret-token"

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.connections += 1
                self._open.append(sock)
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, suppress(OSError, ValueError):
            self._behave(sock)
        self.closed.set()

    def close(self) -> None:
        for sock in (self._listener, *self._open):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


@contextmanager
def serving(behave: Behaviour, host: str = "127.0.0.1") -> Iterator[Server]:
    server = Server(behave, host)
    try:
        yield server
    finally:
        server.close()


def read_request(sock: socket.socket) -> bytes:
    """One whole request. Raises: OSError, when the client is gone."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _receive(sock)
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    while len(body) < length:
        body += _receive(sock)
    return head + b"\r\n\r\n" + body


def _receive(sock: socket.socket) -> bytes:
    data = sock.recv(65536)
    if not data:
        raise ConnectionError("the client is gone")
    return data


def drip(sock: socket.socket, piece: bytes) -> None:
    """Send `piece` again and again until the client is gone."""
    while True:
        sock.sendall(piece)
        time.sleep(DRIP_S)


def answer(sock: socket.socket) -> None:
    """A good server: every request is answered, the connection kept."""
    while True:
        read_request(sock)
        sock.sendall(OK)


def stall(sock: socket.socket) -> None:
    read_request(sock)
    sock.recv(1)  # until the client gives up


def never_read(sock: socket.socket) -> None:
    """For requests larger than the socket buffers: the client hangs while it writes."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    time.sleep(1)  # longer than the client's patience


def drip_headers(sock: socket.socket) -> None:
    read_request(sock)
    sock.sendall(b"HTTP/1.1 200 OK\r\nX-Endless: ")
    drip(sock, b"x")


def drip_header_lines(sock: socket.socket) -> None:
    read_request(sock)
    sock.sendall(b"HTTP/1.1 200 OK\r\n")
    drip(sock, b"X: y\r\n")


def drip_body(sock: socket.socket) -> None:
    read_request(sock)
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    drip(sock, b"x")


def drip_chunks(sock: socket.socket) -> None:
    read_request(sock)
    sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    drip(sock, b"1\r\nx\r\n")


def drip_until_close(sock: socket.socket) -> None:
    """A body without length: its only end is the connection's."""
    read_request(sock)
    sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    drip(sock, b"x")


def drip_handshake(sock: socket.socket) -> None:
    """A TLS record of 16 KB that never gets full."""
    sock.recv(65536)
    sock.sendall(b"\x16\x03\x03\x40\x00")
    drip(sock, b"\x02")


def close_after_request(sock: socket.socket) -> None:
    read_request(sock)


def cut_in_headers(sock: socket.socket) -> None:
    read_request(sock)
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Ty")


def cut_in_body(sock: socket.socket) -> None:
    read_request(sock)
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")


def over_tls(behave: Behaviour, certificate: Path) -> Behaviour:
    """`behave` inside TLS; `certificate` is a file with certificate and key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def serve(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True) as tls:
            behave(tls)

    return serve


def sending(reply: bytes) -> Behaviour:
    """Answers one request with these bytes and closes."""

    def behave(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(reply)

    return behave


def streaming(*events: bytes, then: Behaviour | None = None) -> Behaviour:
    """An event stream in chunked coding, well ended; or `then`, instead of its end."""

    def behave(sock: socket.socket) -> None:
        while True:
            read_request(sock)
            sock.sendall(EVENT_STREAM)
            for event in events:
                sock.sendall(b"%x\r\n%s\r\n" % (len(event), event))
            if then is not None:
                then(sock)
                return
            sock.sendall(b"0\r\n\r\n")

    return behave


def make_certificate(folder: Path) -> Path:
    """A self-signed certificate for 127.0.0.1 and localhost, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "clawdbot test")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path
