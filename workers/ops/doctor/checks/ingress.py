"""Who answers on the ingress's port, and whether it is ready."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from shared.errors import OutcomeUnknownError, TaskError
from shared.http_values import HttpResponse
from workers.ops.doctor.finding import Finding, failed, ok, warning
from workers.ops.doctor.subject import Subject, port_of, reason

DEFAULT_PORT = 18_789
STATES = ("ready", "unavailable")  #: what `/ready` says of itself; nobody else says it like that
_NO_WORKER = "no live worker"


def look(subject: Subject) -> Iterator[Finding]:
    """One finding."""
    url = subject.ingress_url
    try:
        response = subject.get(f"{url}/ready?deep=1")
    except TaskError as error:
        took_it = isinstance(error, OutcomeUnknownError)  # all others: nothing was sent
        yield _silent(url, error) if took_it else _nobody(url, error)
        return
    yield _state(url, response) if is_ours(response) else _foreign(url, response)


def is_ours(ready: HttpResponse) -> bool:
    """Whether an answer to `/ready` is that of an ingress."""
    body = ready.json_object()
    return body.get("status") in STATES and isinstance(body.get("reasons"), list)


def _nobody(url: str, error: TaskError) -> Finding:
    return failed(
        f"nobody answers at {url}: {reason(error)}",
        "No webhook gets in.",
        "start the ingress; if it runs elsewhere, name it with --ingress",
        "python -m ingress",
        "clawdbot doctor --ingress http://its-host:18789",
    )


def _silent(url: str, error: TaskError) -> Finding:
    return failed(
        f"{url} takes connections and does not answer: {reason(error)}",
        "Webhooks run into the platform's time limit (3 s) and count as failed.",
        "restart what listens there, and look at the load of its machine",
        f"ss -ltnp 'sport = :{port_of(url)}'",
    )


def _foreign(url: str, response: HttpResponse) -> Finding:
    server = response.headers.get("server", "it doesn't say which")[:60]
    hint = "; OpenClaw's gateway has the same default port" if port_of(url) == DEFAULT_PORT else ""
    return failed(
        f"another program answers at {url} (HTTP {response.status}, {server}){hint}",
        "The platforms' calls reach that program, and the ingress can't start on this port.",
        "stop it, or give the ingress another port",
        f"ss -ltnp 'sport = :{port_of(url)}'",
        "CLAWDBOT_PORT=18799",
    )


def _state(url: str, response: HttpResponse) -> Finding:
    body = response.json_object()
    reasons = [str(why) for why in body["reasons"]]
    if not reasons:
        full = body.get("full")
        return _full(url, full) if isinstance(full, list) and full else ok(f"{url} is ready")
    seen = f"{url}: {'; '.join(reasons)}"
    if all(why.startswith(_NO_WORKER) for why in reasons):
        return warning(
            seen, "Messages get in, and wait for a worker.", "start one: see the check workers"
        )
    return failed(
        seen,
        "New messages are refused with 503.",
        "see the checks redis and memory; a full queue needs workers",
        "clawdbot queue",
    )


def _full(url: str, bots: list[Any]) -> Finding:
    return warning(
        f"{url}: queue_capacity is used up by {', '.join(map(str, bots))}",
        "New messages for these bots are refused with 503.",
        "a full queue needs workers",
        "clawdbot queue",
    )
