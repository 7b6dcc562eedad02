"""Who may import whom, how large a file may be, and what the ingress must never load."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("ingress", "workers", "shared")
ALL_FOLDERS = (*PACKAGES, "tests", "compose", "requirements")
MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 50
#: Tests tell stories one after the other; such files may be longer.
MAX_TEST_LINES = 900

PURE_STDLIB = {
    *("__future__", "base64", "bisect", "collections", "dataclasses", "functools", "hashlib"),
    *("hmac", "html", "importlib", "ipaddress", "itertools", "json", "logging", "re", "types"),
    *("typing", "unicodedata", "urllib"),
}
ROOM_NEIGHBOURS = ("base", "settings", "signing", "steps", "text")
CELERY = {"celery", "kombu", "billiard"}
#: What opens sockets or files, or reads the clock: not for what is pure.
NOT_IN_SHARED = {"redis", "aiohttp", "requests", "urllib3", "socket", "ssl", "http", "asyncio"}


@dataclass(frozen=True)
class Import:
    """One import: `module` in full, and whether it stands inside a function."""

    file: Path
    line: int
    module: str
    is_inside: bool
    is_for_types: bool

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


def files(*folders: str) -> list[Path]:
    return sorted(
        path.relative_to(ROOT)
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if "__pycache__" not in path.parts
    )


def tree_of(file: Path) -> ast.Module:
    return ast.parse((ROOT / file).read_text("utf-8"), str(file))


def imports_of(file: Path) -> Iterator[Import]:
    yield from _walk(file, tree_of(file), is_inside=False, is_for_types=False)


def _walk(file: Path, node: ast.AST, *, is_inside: bool, is_for_types: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        for module in _modules(child):
            yield Import(file, child.lineno, module, is_inside, is_for_types)  # type: ignore[attr-defined]
        yield from _walk(
            file,
            child,
            is_inside=is_inside or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef),
            is_for_types=is_for_types or _is_type_checking(child),
        )


def _modules(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def _is_type_checking(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


def imports(*folders: str) -> list[Import]:
    return [found for file in files(*folders) for found in imports_of(file)]


def broken(found: list[Import]) -> list[str]:
    return [str(each) for each in found]


ROOMS = sorted(path.parent.name for path in (ROOT / "shared/platforms").glob("*/inbound.py"))


def test_there_are_rooms() -> None:
    assert {"dingtalk", "feishu"} <= set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_platform_room_is_pure(room: str) -> None:
    """Its own files, the values, what rooms share; no clock, no chance, no input or output."""
    ours = (
        *("shared.errors.", "shared.messages.", "shared.http_values."),
        *(f"shared.platforms.{name}." for name in (*ROOM_NEIGHBOURS, room)),
    )
    third_party = {"settings.py": {"pydantic"}, "cipher.py": {"cryptography"}}
    wrong = []
    for each in imports(f"shared/platforms/{room}"):
        allowed = PURE_STDLIB | third_party.get(each.file.name, set())
        if not (each.module.startswith(ours) if each.top in PACKAGES else each.top in allowed):
            wrong.append(each)
    assert broken(wrong) == []


def test_what_rooms_share_knows_no_room() -> None:
    rooms = tuple(f"shared.platforms.{room}" for room in ROOMS)
    shared = [each for each in imports("shared/platforms") if each.file.parent.name not in ROOMS]

    assert broken([each for each in shared if each.module.startswith(rooms)]) == []


def test_platforms_are_named_in_their_rooms_and_the_registry_alone() -> None:
    """A third platform costs one folder and one line."""
    named = []
    for file in files(*PACKAGES):
        if file.parent.name in ROOMS or file == Path("shared/platforms/__init__.py"):
            continue
        for node in ast.walk(tree_of(file)):
            if isinstance(node, ast.Constant) and node.value in ROOMS:
                named.append(f"{file}:{node.lineno}")
    assert named == []


def test_shared_opens_no_socket_and_knows_neither_side() -> None:
    wrong = NOT_IN_SHARED | {"ingress", "workers", "tests", "compose"}

    assert broken([each for each in imports("shared") if each.top in wrong]) == []


def test_the_envelope_alone_knows_celery_on_our_side_of_the_queue() -> None:
    found = [each for each in imports("shared", "ingress") if each.top in CELERY]

    assert {str(each.file) for each in found} == {"shared/envelope.py"}


def test_the_ingress_knows_nothing_of_the_workers() -> None:
    wrong = {"workers", "tests", "compose", "requests", "backoff", "celery", "kombu"}

    assert broken([each for each in imports("ingress") if each.top in wrong]) == []


def test_the_ingress_talks_to_redis_without_blocking() -> None:
    asynchronous = (
        *("redis.asyncio", "redis.exceptions", "redis.backoff", "redis.credentials"),
        "redis.commands.core.AsyncScript",
    )
    found = [each for each in imports("ingress") if each.top == "redis"]

    assert found
    assert broken([each for each in found if not each.module.startswith(asynchronous)]) == []


def test_workers_know_nothing_of_the_ingress() -> None:
    wrong = {"ingress", "tests", "compose", "aiohttp", "asyncio", "uvloop"}

    assert broken([each for each in imports("workers") if each.top in wrong]) == []


def test_the_simulator_imports_nothing_of_ours() -> None:
    assert broken([each for each in imports("tests/simulator") if each.top in PACKAGES]) == []


def test_nothing_that_ships_imports_tests() -> None:
    found = [each for each in imports(*PACKAGES) if each.top == "tests"]

    assert broken(found) == []


def test_no_import_hides_inside_a_function() -> None:
    assert broken([each for each in imports(*PACKAGES) if each.is_inside]) == []


def module_name(file: Path) -> str:
    parts = file.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def graph() -> dict[str, set[str]]:
    """Which of our modules imports which at run time."""
    known = {module_name(file) for file in files(*PACKAGES)}
    edges: dict[str, set[str]] = {name: set() for name in known}
    for each in imports(*PACKAGES):
        if each.top not in PACKAGES or each.is_for_types:
            continue
        whole = each.module
        target = whole if whole in known else whole.rpartition(".")[0]
        assert target in known, str(each)
        edges[module_name(each.file)].add(target)
    return edges


def cycle_in(edges: dict[str, set[str]]) -> list[str]:
    done: set[str] = set()

    def visit(name: str, way: list[str]) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name in done:
            return []
        for target in sorted(edges[name]):
            if found := visit(target, [*way, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(edges) if (found := visit(name, []))), [])


def test_no_import_goes_in_a_circle() -> None:
    assert cycle_in(graph()) == []


def test_a_circle_would_be_seen() -> None:
    assert cycle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


def test_no_module_has_a_name_of_the_standard_library() -> None:
    """`python -m` and pytest put folders on the path: such a file would hide the real one."""
    taken = sys.stdlib_module_names - {"__main__"}

    assert [str(f) for f in files(*PACKAGES) if f.stem in taken and f.stem != "__init__"] == []
    assert not {folder.name for folder in ROOT.iterdir() if folder.is_dir()} & taken


def test_package_files_are_empty_or_a_front() -> None:
    """`__init__.py` holds nothing but the registry and the settings' front door."""
    full = {str(f) for f in files(*PACKAGES) if f.stem == "__init__" and (ROOT / f).stat().st_size}

    assert full <= {"shared/platforms/__init__.py", "shared/config/__init__.py"}


def loaded_by(module: str, *names: str) -> list[str]:
    code = f"import sys, {module}; print([n for n in {names!r} if n in sys.modules])"
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found: list[str] = ast.literal_eval(ran.stdout)
    return found


def test_the_ingress_loads_neither_workers_nor_requests() -> None:
    assert loaded_by("ingress.app", "workers", "requests", "backoff", "gevent", "tests") == []


def test_the_console_script_loads_a_room_only_when_it_is_chosen() -> None:
    assert loaded_by("shared.cli", "workers", "redis", "celery", "aiohttp", "requests") == []


def test_files_are_small_enough_to_be_read() -> None:
    long = {
        str(file): lines
        for file in files(*ALL_FOLDERS)
        if (lines := len((ROOT / file).read_text("utf-8").splitlines()))
        > (MAX_TEST_LINES if file.name.startswith("test_") else MAX_FILE_LINES)
    }
    assert long == {}


def test_functions_are_small_enough_to_be_read() -> None:
    long = {
        f"{file}:{node.lineno} {node.name}": length
        for file in files(*ALL_FOLDERS)
        for node in ast.walk(tree_of(file))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or 0) - node.lineno + 1) > MAX_FUNCTION_LINES
    }
    assert long == {}


def test_every_file_that_has_code_says_what_it_promises() -> None:
    silent = [
        str(f) for f in files(*PACKAGES) if _has_code(f) and not ast.get_docstring(tree_of(f))
    ]

    assert silent == []


def _has_code(file: Path) -> bool:
    return bool((ROOT / file).read_text("utf-8").strip())


def test_every_file_postpones_its_annotations() -> None:
    late = [
        str(file)
        for file in files(*PACKAGES)
        if _has_code(file)
        and not any(each.module == "__future__.annotations" for each in imports_of(file))
    ]
    assert late == []
