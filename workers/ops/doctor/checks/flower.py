"""Whether Flower answers, and asks for a password where others can reach it."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from shared.errors import TaskError
from shared.platforms.settings import is_loopback
from workers.ops.doctor.finding import Finding, ok, skipped, warning
from workers.ops.doctor.own_address import is_listened_on, own_addresses
from workers.ops.doctor.subject import Subject, port_of, reason


def look(subject: Subject) -> Iterator[Finding]:
    """One finding."""
    url = subject.flower_url
    try:
        response = subject.get(f"{url}/")
    except TaskError as error:
        yield skipped(
            f"nobody answers at {url}: {reason(error)}",
            "nothing: Flower is optional; if it runs elsewhere, name it with --flower",
        )
        return
    if "Tornado" not in response.headers.get("server", ""):
        yield skipped(f"what answers at {url} is not Flower", "name it with --flower")
    elif response.status == 401:
        yield ok(f"{url} answers, and asks for a password")
    else:
        yield _unguarded(url)


def _unguarded(url: str) -> Finding:
    """It asks for no password: who can reach it?"""
    seen = f"{url} answers without asking for a password"
    if not is_loopback(urlsplit(url).netloc):
        return _open(seen)
    port = port_of(url)
    for address in own_addresses():
        if is_listened_on(address, port):
            return _open(f"{seen}, and others reach port {port} at {address}")
    return ok(f"{url} answers, on this machine only")


def _open(seen: str) -> Finding:
    return warning(
        seen,
        "Whoever reaches it sees the queues and may shut workers down.",
        "start it with a password, or bind it to 127.0.0.1",
        "celery -A workers flower --basic-auth=user:password",
    )
