"""`clawdbot doctor` on the running gateway, whole and in pieces."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shared.rehearsal import PREFIX
from tests.e2e.processes import wait_until
from tests.e2e.stack import Stack, Worker
from tests.e2e.talk import Talk
from workers.ops.doctor.registry import NAMES

pytestmark = pytest.mark.e2e

BOUND_S = 60  #: 29 s are promised; the machine may be busy
QUIET = ("--ntp", "127.0.0.1:9")  #: nothing outside is asked


@dataclass(frozen=True)
class Report:
    exit_code: int
    checks: dict[str, dict[str, Any]]

    def statuses(self, check: str) -> list[str]:
        return [finding["status"] for finding in self.checks[check]["findings"]]

    def text(self, check: str) -> str:
        return json.dumps(self.checks[check], ensure_ascii=False)


def examine(stack: Stack, *checks: str, **changes: str) -> Report:
    """Run it as an operator does. `changes`: of the environment, without CLAWDBOT_."""
    only = [word for check in checks for word in ("--only", check)]
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from shared.cli import main; main()"),
            *("doctor", "--json", *QUIET, *only),
        ],
        cwd=stack.directory,
        env={**stack.environment, **{f"CLAWDBOT_{n}": value for n, value in changes.items()}},
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    assert done.stdout, done.stderr
    assert not [secret for secret in stack.secrets() if secret in done.stdout]
    found = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    return Report(done.returncode, found)


async def test_a_healthy_gateway_passes_every_check(stack: Stack, talk: Talk) -> None:
    def looked_at() -> Report | None:  # what is too slow for it is skipped: a machine may be busy
        found = examine(stack, PUBLIC_URL=stack.ingress_url)
        return None if "skipped" in found.statuses("rehearsal") else found

    report = wait_until(looked_at, 90, "every rehearsal is answered")

    assert report.exit_code == 0, report
    assert tuple(report.checks) == NAMES
    for check in NAMES:
        assert set(report.statuses(check)) <= {"ok", "warning", "skipped"}, report.text(check)
    for check in ("workers", "limits", "signatures", "credentials", "ingress", "rehearsal"):
        assert set(report.statuses(check)) == {"ok"}, report.text(check)
    assert report.statuses("public").count("ok") == 4  # every bot
    assert len(report.statuses("rehearsal")) == 4


async def test_a_rehearsal_is_accounted_for_and_nobody_hears_of_it(
    stack: Stack, talk: Talk
) -> None:
    before, used = stack.census(), usage(stack)
    report = examine(stack, "rehearsal")
    after = stack.census()

    assert report.exit_code == 0
    assert usage(stack) == used
    for bot, facts in after.items():
        accepted, answered = (
            facts["counts"].get(n, 0) - before[bot]["counts"].get(n, 0)
            for n in ("accepted", "answered")
        )
        assert (accepted, answered, facts["imbalance"]) == (1, 1, 0), bot
    assert [r for r in await talk.client.ledger() if r["kind"] in ("send", "model")] == []
    assert [key for key in stack.redis.scan_iter("*") if PREFIX in key] == []


def usage(stack: Stack) -> dict[str, dict[str, str]]:
    """All that is counted for consumers."""
    return {key: stack.redis.hgetall(key) for key in stack.redis.scan_iter("*:usage:*")}


async def test_an_ingress_with_other_secrets_refuses_the_rehearsal(
    stack: Stack, talk: Talk
) -> None:
    report = examine(stack, "rehearsal", FEISHU__ENCRYPT_KEY="another-key")

    assert report.exit_code == 1
    assert report.statuses("rehearsal").count("failed") == 1
    assert "refused a call signed with these very secrets" in report.text("rehearsal")


async def test_another_redis_than_the_ingress_has_is_told(stack: Stack, talk: Talk) -> None:
    report = examine(stack, "rehearsal", REDIS__URL=stack.redis_server.url[:-1] + "9")

    assert set(report.statuses("rehearsal")) == {"failed"}
    assert "the same CLAWDBOT_REDIS__URL" in report.text("rehearsal")


async def test_a_proof_that_the_workers_can_not_read_dies_and_leaves_no_letter(
    stack: Stack, talk: Talk
) -> None:
    report = examine(stack, "rehearsal", MASTER_KEY="a master key of nobody else's")

    assert set(report.statuses("rehearsal")) == {"failed"}
    assert "vault:unreadable" in report.text("rehearsal")
    assert stack.clawdbot("dead", "list").stdout == "no dead letters\n"
    assert {bot["imbalance"] for bot in stack.census().values()} == {0}
    await talk.at_rest()
    assert [r for r in await talk.client.ledger() if r["kind"] in ("send", "model")] == []


async def test_a_person_who_writes_a_proof_is_answered_as_ever(stack: Stack, talk: Talk) -> None:
    (answer,) = await talk.ask("feishu", f"{PREFIX}1 gAAAAABnotAProof")

    assert "gAAAAABnotAProof" in answer


@pytest.mark.timeout(240)
def test_what_is_missing_is_named_and_a_rehearsal_waits_for_its_worker(tmp_path: Path) -> None:
    with Stack(tmp_path / "run", workers=[Worker("both", "process,push")]) as stack:
        shared = examine(stack, "workers", "rehearsal")
        assert shared.exit_code == 0
        assert "serves both stages" in shared.text("workers")

        stack["both"].stop()
        alone = examine(stack, "workers", "ingress", "rehearsal")
        assert alone.exit_code == 1
        assert alone.statuses("workers").count("failed") == 2
        assert alone.statuses("ingress") == ["warning"]
        assert "still waiting for the model" in alone.text("rehearsal")

        stack["both"].start()
        wait_until(lambda: not stack.unfinished_lanes(), 40, "the rehearsals have ended")
        assert {bot["counts"].get("answered") for bot in stack.census().values()} == {2}

        stack.redis_server.send_signal(signal.SIGSTOP)
        frozen = examine(stack)
        stack.redis_server.send_signal(signal.SIGCONT)
        assert frozen.exit_code == 1
        for check in ("redis", "ingress"):
            assert "failed" in frozen.statuses(check)
        for check in ("signatures", "credentials", "models"):
            assert set(frozen.statuses(check)) == {"ok"}

        stack.crash_redis()
        stack["ingress"].kill()
        dead = examine(stack)
        stack.redis_server.start()
        assert dead.exit_code == 1
        for check in ("redis", "ingress"):
            assert dead.statuses(check) == ["failed"]
