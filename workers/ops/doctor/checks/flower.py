"""Whether Flower answers, and asks for a password where others can reach it."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from shared.errors import TaskError
from shared.platforms.settings import is_loopback
from workers.ops.doctor.finding import Finding, ok, skipped, warning
from workers.ops.doctor.subject import Subject, reason


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
    elif is_loopback(urlsplit(url).netloc):
        yield ok(f"{url} answers, on this machine only")
    else:
        yield _open(url)


def _open(url: str) -> Finding:
    return warning(
        f"{url} answers without asking for a password",
        "Whoever reaches it sees the queues and may shut workers down.",
        "start it with a password, or bind it to 127.0.0.1",
        "celery -A workers flower --basic-auth=user:password",
    )
