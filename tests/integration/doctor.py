"""`clawdbot doctor` as an operator runs it, and its report as tests read it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from click.testing import CliRunner, Result

from shared.cli import cli
from tests.integration.gateway import KNOWN

_SECRET_NAMES = ("APP_SECRET", "VERIFICATION_TOKEN", "ENCRYPT_KEY", "AK_SECRET")
SECRETS = tuple(value for name, value in KNOWN.items() if name.endswith(_SECRET_NAMES))


@dataclass(frozen=True)
class Report:
    """What one run said."""

    exit_code: int
    value: Mapping[str, Any]

    def findings(self, check: str) -> list[dict[str, Any]]:
        found = [c["findings"] for c in self.value["checks"] if c["name"] == check]
        assert found, f"{check} is not in the report"
        return list(found[0])

    def statuses(self, check: str) -> list[str]:
        return [finding["status"] for finding in self.findings(check)]

    def only(self, check: str, status: str) -> dict[str, Any]:
        """The one finding of this status; it says what it means and what to do."""
        found = [f for f in self.findings(check) if f["status"] == status]
        assert len(found) == 1, self.findings(check)
        if status in ("failed", "warning"):
            assert found[0]["means"]
            assert found[0]["cure"]
        return found[0]


class Doctor:
    """Runs the command with these settings. Nothing but what a test names is looked for outside."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = dict(environ)

    def run(self, *arguments: str, **changes: str) -> Result:
        """`changes`: of the environment, without CLAWDBOT_."""
        changed = {f"CLAWDBOT_{name}": value for name, value in changes.items()}
        runner = CliRunner(env={**self.environ, **changed})
        given = ["doctor", "--ntp", "127.0.0.1:9", *arguments]
        result = runner.invoke(cli, given, catch_exceptions=False)
        assert not [secret for secret in SECRETS if secret in result.output]
        return result

    def look(self, *checks: str, more: tuple[str, ...] = (), **changes: str) -> Report:
        """The report of these checks."""
        only = [word for check in checks for word in ("--only", check)]
        result = self.run("--json", *only, *more, **changes)
        return Report(result.exit_code, json.loads(result.output))


def http(status: str, body: str = "{}", *headers: str) -> bytes:
    """A whole answer, the last one of its connection."""
    lines = (
        f"HTTP/1.1 {status}",
        *headers,
        "Connection: close",
        f"Content-Length: {len(body.encode())}",
        "",
        body,
    )
    return "\r\n".join(lines).encode()
