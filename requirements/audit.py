"""Ask whether anything that is locked has a known vulnerability: `make audit`.

Exit code 1 for one that `known-vulnerabilities.toml` doesn't list, or whose date there is over; 0
when nobody can be asked, which is said: a machine without an index must be able to run CI.
pip-audit lives in an environment of its own: the project doesn't need what it needs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
HOME = HERE.parent / ".cache" / "audit"
TOOL = "pip-audit>=2.9,<3"
LOCK = HERE / "dev.lock"
KNOWN = HERE / "known-vulnerabilities.toml"
TIMEOUT_S = 240


class UnreachableError(Exception):
    """Nobody could be asked; the text says why."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One vulnerability of a locked version. fixed: versions without it."""

    package: str
    version: str
    ids: tuple[str, ...]
    fixed: tuple[str, ...]

    def __str__(self) -> str:
        cure = f"fixed in {', '.join(self.fixed)}" if self.fixed else "no fixed version yet"
        return f"{self.package} {self.version}: {', '.join(self.ids)}; {cure}"


def main() -> int:
    try:
        report = ask(install())
    except UnreachableError as error:
        print(f"audit: skipped, nobody could be asked: {error}")
        return 0
    return judge(report, datetime.now(UTC).date())


def judge(report: Mapping[str, Any], today: date) -> int:
    """Tell of what is new; the exit code."""
    accepted = known(tomllib.loads(KNOWN.read_text("utf-8")), today)
    new = [each for each in findings(report) if not accepted.intersection(each.ids)]
    for each in new:
        print(f"audit: {each}")
    if new:
        print(f"audit: update with `make lock`, or list it in {KNOWN.name} with reason and date")
    else:
        print(f"audit: {len(asked(report))} packages, nothing that is not known")
    return 1 if new else 0


def install() -> Path:
    """The tool, installed if it is not there."""
    tool = HOME / "bin" / "pip-audit"
    if not tool.exists():
        venv.create(HOME, with_pip=True, clear=True)
        pip = [str(HOME / "bin" / "python"), "-m", "pip", "install", "--quiet", TOOL]
        run([*pip, "--disable-pip-version-check"])
    return tool


def ask(tool: Path) -> dict[str, Any]:
    """What pip-audit says of the lock. It ends with 1 for findings and for failures alike.

    An index that knows nothing of vulnerabilities (a mirror of the files alone) makes it skip all.
    """
    options = ["--disable-pip", "--require-hashes", "--progress-spinner", "off", "--format", "json"]
    done = run([str(tool), *options, "--requirement", str(LOCK)], may_fail=True)
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise UnreachableError(last_line(done.stderr)) from None
    if not asked(report):
        raise UnreachableError("the index tells nothing of vulnerabilities")
    return report


def asked(report: Mapping[str, Any]) -> list[Any]:
    """The packages that something is known of."""
    return [each for each in report["dependencies"] if "skip_reason" not in each]


def run(command: list[str], *, may_fail: bool = False) -> subprocess.CompletedProcess[str]:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise UnreachableError(f"no answer in {TIMEOUT_S} s") from None
    if done.returncode and not may_fail:
        raise UnreachableError(last_line(done.stderr))
    return done


def findings(report: Mapping[str, Any]) -> Iterator[Finding]:
    for package in report["dependencies"]:
        for found in package.get("vulns", ()):
            ids = (found["id"], *found.get("aliases", ()))
            fixed = tuple(found.get("fix_versions", ()))
            yield Finding(package["name"], package["version"], ids, fixed)


def known(listed: Mapping[str, Any], today: date) -> set[str]:
    """The ids that are accepted for now. Each entry needs its id, reason and date."""
    entries = listed.get("known", [])
    for entry in entries:
        if not entry["reason"]:
            sys.exit(f"{KNOWN.name}: {entry['id']} has no reason")
    return {entry["id"] for entry in entries if today <= entry["until"]}


def last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no reason given"


if __name__ == "__main__":
    sys.exit(main())
