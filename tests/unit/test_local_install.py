"""`make install` chooses a Python that works, and says in one sentence what to do without one."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SYSTEM_TOOLS = ("sh", "cat", "cksum", "dirname", "sed", "tail", "mkdir", "rm", "env")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """What the script reads, in a folder with a space; no package is ever installed."""
    root = tmp_path / "the project"
    shutil.copytree(ROOT / "requirements", root / "requirements")
    shutil.copy(ROOT / "pyproject.toml", root)
    return root


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A PATH with nothing but the system's tools."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in SYSTEM_TOOLS:
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    return folder


def add_program(programs: Path, name: str, script: str) -> None:
    (programs / name).write_text(f"#!/bin/sh\n{script}\n")
    (programs / name).chmod(0o755)


def add_python(programs: Path, name: str, *, version: str, has_ensurepip: bool = True) -> None:
    """A stand-in that answers what the script asks a Python before it uses it."""
    fits = version in ("3.11", "3.12", "3.13", "3.14")
    add_program(
        programs,
        name,
        f"""case "$2" in
  *sys.exit*) exit {0 if fits else 1} ;;
  *ensurepip*) exit {0 if has_ensurepip else 1} ;;
  *print*) echo {version}; exit 0 ;;
  *venv*) echo "{name} would make it" >&2; exit 9 ;;
esac
[ "$1" = --version ] && echo "Python {version}" """,
    )


def install(project: Path, programs: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "requirements/install.sh"],
        cwd=project,
        env={"PATH": str(programs), **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_no_python_at_all_is_one_sentence_with_the_cure(project: Path, programs: Path) -> None:
    add_program(programs, "apt-get", "exit 0")

    done = install(project, programs)

    assert done.returncode == 1
    assert done.stderr == (
        "make install: Python 3.11 to 3.14 is needed; to get one: "
        "apt-get install python3 python3-venv (as root)\n"
    )


def test_too_old_python_is_named(project: Path, programs: Path) -> None:
    add_python(programs, "python3", version="3.9")

    done = install(project, programs)

    assert done.returncode == 1
    assert "is needed, but python3 is Python 3.9; to get one:" in done.stderr


def test_python_without_ensurepip_names_the_package_that_brings_it(
    project: Path, programs: Path
) -> None:
    add_python(programs, "python3", version="3.12", has_ensurepip=False)
    add_program(programs, "apt-get", "exit 0")

    done = install(project, programs)

    assert done.returncode == 1
    assert "apt-get install python3.12-venv (as root)" in done.stderr


def test_name_that_is_there_but_does_not_run_is_passed_over(project: Path, programs: Path) -> None:
    add_program(programs, "python3.13", "echo 'command not found' >&2; exit 127")
    add_python(programs, "python3.12", version="3.12", has_ensurepip=False)
    add_python(programs, "python3.11", version="3.11")

    done = install(project, programs)

    assert "with Python 3.11" in done.stderr


def test_newest_tested_python_goes_before_an_untested_one(project: Path, programs: Path) -> None:
    for version in ("3.11", "3.12", "3.13", "3.14"):
        add_python(programs, f"python{version}", version=version)

    assert "with Python 3.13" in install(project, programs).stderr


def test_python_can_be_chosen(project: Path, programs: Path) -> None:
    add_python(programs, "python3.13", version="3.13")
    add_python(programs, "my python", version="3.12")

    assert "with Python 3.12" in install(project, programs, PYTHON="my python").stderr


def test_nothing_is_done_when_it_was_done_for_these_files(project: Path, programs: Path) -> None:
    make_environment(project, programs)

    done = install(project, programs)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("changed", ["pyproject.toml", "requirements/dev.lock"])
def test_changed_project_file_installs_into_the_same_environment(
    project: Path, programs: Path, changed: str
) -> None:
    make_environment(project, programs)
    with (project / changed).open("a") as file:
        file.write("\n")

    done = install(project, programs)

    assert "installing the locked packages" in done.stderr
    assert "make install: making" not in done.stderr


def test_an_installation_that_failed_midway_is_not_the_one_before(
    project: Path, programs: Path
) -> None:
    make_environment(project, programs)
    lock = project / "requirements/dev.lock"
    before = lock.read_bytes()
    lock.write_bytes(before + b"\n")
    assert install(project, programs).returncode == 1

    lock.write_bytes(before)
    done = install(project, programs)

    assert "installing the locked packages" in done.stderr
    assert "make install: making" not in done.stderr


def test_moved_project_gets_a_new_environment(project: Path, programs: Path) -> None:
    make_environment(project, programs)
    add_python(programs, "python3", version="3.12")
    moved = project.rename(project.with_name("moved"))

    assert "making .venv with Python 3.12" in install(moved, programs).stderr


def test_environment_whose_python_is_gone_is_made_anew(project: Path, programs: Path) -> None:
    make_environment(project, programs)
    add_python(programs, "python3", version="3.12")
    (project / ".venv/bin/python").unlink()
    (project / ".venv/bin/python").symlink_to("/nowhere/python")

    assert "making .venv with Python 3.12" in install(project, programs).stderr


def make_environment(project: Path, programs: Path) -> None:
    """An environment as the script leaves it; its pip refuses to work."""
    (project / ".venv/bin").mkdir(parents=True)
    python = project / ".venv/bin/python"
    python.write_text('#!/bin/sh\n[ "$1" != -m ]\n')
    python.chmod(0o755)
    checksum = subprocess.run(
        "cat pyproject.toml requirements/dev.lock requirements/embedded-redis.lock "
        "requirements/install.sh | cksum",
        shell=True,
        cwd=project,
        env={"PATH": str(programs)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (project / ".venv/.installed").write_text(f"{os.path.realpath(project)}\n{checksum}")


def test_help_lists_every_target_and_is_the_default() -> None:
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")

    told = subprocess.run([make], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    listed = {line.split()[0] for line in told.splitlines() if line.startswith("  ")}
    assert {"install", "up", "down", "status", "logs", "check", "test", "e2e", "help"} <= listed
