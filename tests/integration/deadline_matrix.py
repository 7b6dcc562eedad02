"""Every way to hang a call, and how it has to end. Run by test_client.py in three kinds of process.

As a program: `python -m tests.integration.deadline_matrix threads|gevent|fork CERTIFICATE`;
exits with 0 when every case ended as it should.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and sys.argv[1] == "gevent":
    from gevent import monkey

    monkey.patch_all()  # before anything else is imported, as Celery's gevent pool does

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

from shared.errors import DeadlineError, OutcomeUnknownError
from shared.http_values import HttpRequest
from tests.integration import slow_server as slow
from workers.client import HttpClient
from workers.deadline import Deadline

BUDGET_S = 0.5
LEAST_S = BUDGET_S * 0.5
MOST_S = 5.0

BIG_BODY = b"x" * 20_000_000


def send(client: HttpClient, url: str, body: bytes = b"{}") -> None:
    client.send(HttpRequest("POST", url, body=body), Deadline(BUDGET_S))


def send_big(client: HttpClient, url: str) -> None:
    send(client, url, BIG_BODY)


def send_on_kept_connection(client: HttpClient, url: str) -> None:
    client.send(HttpRequest("POST", url), Deadline(MOST_S))
    send(client, url)


def stream(client: HttpClient, url: str) -> None:
    with client.stream(HttpRequest("POST", url), Deadline(60, BUDGET_S)) as response:
        for _ in response.chunks():
            pass


def answer_once(sock: Any) -> None:
    slow.read_request(sock)
    sock.sendall(slow.OK)
    slow.drip_body(sock)


#: name → server's behaviour, whether inside TLS, client's call, how it has to end
CASES: dict[str, tuple[slow.Behaviour, bool, Callable[..., None], type[Exception]]] = {
    "stall": (slow.stall, False, send, OutcomeUnknownError),
    # No whole request got out, so nobody can have acted on it.
    "never read": (slow.never_read, False, send_big, DeadlineError),
    "drip header": (slow.drip_headers, False, send, OutcomeUnknownError),
    "drip header lines": (slow.drip_header_lines, False, send, OutcomeUnknownError),
    "drip body": (slow.drip_body, False, send, OutcomeUnknownError),
    "drip chunks": (slow.drip_chunks, False, send, OutcomeUnknownError),
    "drip until close": (slow.drip_until_close, False, send, OutcomeUnknownError),
    "drip on kept connection": (
        answer_once,
        False,
        send_on_kept_connection,
        OutcomeUnknownError,
    ),
    "stall in TLS": (slow.stall, True, send, OutcomeUnknownError),
    "drip header in TLS": (slow.drip_headers, True, send, OutcomeUnknownError),
    "drip body in TLS": (slow.drip_body, True, send, OutcomeUnknownError),
    "drip until close in TLS": (slow.drip_until_close, True, send, OutcomeUnknownError),
    "stream stalls": (slow.stall, False, stream, DeadlineError),
    "stream drips": (slow.drip_chunks, False, stream, DeadlineError),
    "stream drips until close": (slow.drip_until_close, False, stream, DeadlineError),
    "stream drips in TLS": (slow.drip_chunks, True, stream, DeadlineError),
}


def run_case(name: str, certificate: Path) -> str:
    """What is wrong; empty when the case ended as it should."""
    behave, in_tls, call, expected = CASES[name]
    if in_tls:
        behave = slow.over_tls(behave, certificate)
    with slow.serving(behave) as server, made_client(certificate) as client:
        url = server.url.replace("http:", "https:") if in_tls else server.url
        wrong = timed(lambda: call(client, url), expected)
        if not wrong and not server.closed.wait(MOST_S):
            wrong = "the connection was left open"
    return wrong


def run_handshake(certificate: Path) -> str:
    with slow.serving(slow.drip_handshake) as server, made_client(certificate) as client:
        url = server.url.replace("http:", "https:")
        return timed(lambda: send(client, url), DeadlineError)


def run_name_lookup(certificate: Path) -> str:
    never = Event()

    def hang(*_: Any, **__: Any) -> list[Any]:
        never.wait(60)
        return []

    with made_client(certificate, getaddrinfo=hang) as client:
        wrong = timed(lambda: send(client, "http://host.invalid/"), DeadlineError)
    never.set()
    return wrong


@contextmanager
def made_client(certificate: Path, **options: Any) -> Iterator[HttpClient]:
    client = HttpClient(concurrency=4, ca_bundle=str(certificate), **options)
    try:
        yield client
    finally:
        client.close()


def timed(call: Callable[[], None], expected: type[Exception]) -> str:
    started = time.monotonic()
    try:
        call()
    except Exception as error:
        took = time.monotonic() - started
        if type(error) is not expected or not LEAST_S < took < MOST_S:
            return f"ended with {error!r} after {took:.2f} s"
        if not getattr(error, "code", "").startswith("deadline:"):
            return f"ended with the code {error.code!r}"  # type: ignore[attr-defined]
        return ""
    return "was answered"


def run_all(certificate: Path) -> dict[str, str]:
    """All cases at once, each in a thread: name → what is wrong."""
    wrong: dict[str, str] = {}

    def run(name: str, case: Callable[[], str]) -> None:
        try:
            wrong[name] = case()
        except Exception as error:
            wrong[name] = f"failed with {error!r}"

    cases: dict[str, Callable[[], str]] = {
        "drip handshake": lambda: run_handshake(certificate),
        "name look-up hangs": lambda: run_name_lookup(certificate),
        **{name: lambda name=name: run_case(name, certificate) for name in CASES},  # type: ignore[misc]
    }
    threads = [Thread(target=run, args=case) for case in cases.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {name: text for name, text in wrong.items() if text}


def run_in_fork(certificate: Path) -> int:
    """The parent's watchdog already runs, so the child has to notice that it has none."""
    run_case("stall", certificate)
    child = os.fork()
    if child == 0:
        os._exit(report(certificate))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def report(certificate: Path) -> int:
    wrong = run_all(certificate)
    for name, text in wrong.items():
        print(f"{name}: {text}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    kind, path = sys.argv[1], Path(sys.argv[2])
    sys.exit(run_in_fork(path) if kind == "fork" else report(path))
