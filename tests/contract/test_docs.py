"""Documents name commands, options, routes, files and figures that there are."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingress.app import build_app
from shared.config import load_settings
from tests.contract.commands import DOCUMENTS, ROOT, commands_in, fault_of
from tests.integration.gateway import environ_for
from workers.ops.doctor.registry import NAMES

OPERATIONS = (ROOT / "docs/operations.md").read_text("utf-8")
OUR_ADDRESSES = ("http://127.0.0.1:18789", "https://your.host")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.M)


def targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    return set(re.findall(r"^([a-z][a-z0-9-]*):", makefile, re.M))


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=shown)
def test_every_command_of_a_document_exists_with_its_options(document: Path) -> None:
    wrong = [
        (" ".join(words), fault)
        for words in commands_in(document.read_text("utf-8"))
        if (fault := fault_of(words, targets()))
    ]
    assert wrong == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=shown)
def test_compose_is_told_where_its_file_and_ours_are(document: Path) -> None:
    """It looks for `.env` beside its own file, and would take the default ports."""
    words = " ".join(document.read_text("utf-8").split())
    written = re.findall(r"docker compose (?!…).{46}", words)

    told = "--env-file .env -f compose/compose.yaml "
    assert [w for w in written if not w.startswith(f"docker compose {told}")] == []


def test_commands_are_found_and_wrong_ones_are_seen() -> None:
    text = "Do `clawdbot dead list --limit 3`, then\n\n```sh\nX=1 clawdbot nonsense  # why\n```\n"
    text += "`clawdbot queue --nonsense`, `make nonsense`, `celery -A workers worker --nonsense`\n"

    faults = [fault_of(words, targets()) for words in commands_in(text)]

    assert sorted(faults) == [
        "",
        "no command nonsense",
        "no option --nonsense",
        "no option --nonsense",
        "no target nonsense",
    ]


def curls() -> Iterator[list[str]]:
    for document in DOCUMENTS:
        found = commands_in(document.read_text("utf-8"))
        yield from (words for words in found if words[0] == "curl" and len(words) > 1)


def test_curl_asks_for_routes_that_there_are() -> None:
    settings = load_settings(environ_for("redis://127.0.0.1:9/0"), cwd=Path(__file__).parent)
    routes = {resource.canonical for resource in build_app(settings).router.resources()}
    asked = set()
    for word in (word for words in curls() for word in words):
        for address in OUR_ADDRESSES:
            if word.startswith(address):
                asked.add(word.removeprefix(address).partition("?")[0] or "/")

    assert asked
    assert asked <= routes


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curls_options_exist() -> None:
    help_text = subprocess.run(
        ["curl", "--help", "all"], capture_output=True, text=True, check=True
    ).stdout
    known = set(re.findall(r"(?<![\w-])(--?[\w.-]+)", help_text))
    given = set()
    for words in curls():
        for word in words[1:]:
            if word.startswith("--"):
                given.add(word.partition("=")[0])
            elif re.fullmatch(r"-[a-zA-Z]+", word):
                given |= {f"-{letter}" for letter in word[1:]}

    assert given <= known


def anchors(path: Path) -> set[str]:
    """As GitHub makes them of headings."""
    kept = (re.sub(r"[^\w\- ]", "", h.lower()) for h in _HEADING.findall(path.read_text("utf-8")))
    return {heading.replace(" ", "-") for heading in kept}


@pytest.mark.parametrize("document", DOCUMENTS, ids=shown)
def test_every_link_leads_somewhere(document: Path) -> None:
    broken = []
    for link in _LINK.findall(document.read_text("utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (document.parent / file) if file else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


# --- docs/operations.md -------------------------------------------------------------------------


def first_column(table_after: str) -> list[str]:
    """The code spans that begin the rows of the first table behind a text."""
    section = OPERATIONS[OPERATIONS.index(table_after) :]
    table = section[: section.index("\n\n", section.index("|---"))]
    return [name for row in re.findall(r"^\| (`.*?) \|", table, re.M) for name in spans(row)]


def spans(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def test_every_check_of_the_doctor_is_explained() -> None:
    assert first_column("| check | what it looks at |") == list(NAMES)


def test_every_reason_of_a_401_is_explained() -> None:
    raised = set()
    for file in (ROOT / "shared/platforms").rglob("inbound.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "AuthError":
                raised.add(ast.literal_eval(node.args[0]))

    assert set(first_column("| reason of a 401 |")) == raised


def test_every_explained_code_is_one_of_ours() -> None:
    code = "\n".join(file.read_text("utf-8") for file in (ROOT / "workers").rglob("*.py"))

    for name in first_column("| code | what happened |"):
        assert f'"{name}"' in code, name


def test_the_capacity_table_has_the_measured_figures() -> None:
    measured = (ROOT / "docs/performance.md").read_text("utf-8")
    fast, _, slow = measured.partition("| model 1 s |")
    rows = re.findall(r"^\| (\w+ -c \d+) \| (.*) \|$", OPERATIONS, re.M)

    assert len(rows) == 3
    for pool, figures in rows:
        at_once, at_1s, idle, peak = figures.split(" | ")
        without, with_latency = (cells_of(text, pool) for text in (fast, slow))
        assert (at_once, idle) == (without[0], without[4]), pool
        assert (at_1s, peak) == (with_latency[0], with_latency[3]), pool


def cells_of(table: str, pool: str) -> list[str]:
    found = re.search(rf"^\| gateway, {re.escape(pool)} ×1 \| (.*) \|$", table, re.M)
    assert found, pool
    return found[1].split(" | ")


# --- the doctor's own hints ---------------------------------------------------------------------


def hints() -> set[str]:
    """What the checks say in full strings; what they fill in is some word."""
    found = set()
    for file in (ROOT / "workers/ops/doctor/checks").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [getattr(part, "value", "x") for part in node.values]
                found.add("".join(part if isinstance(part, str) else "x" for part in parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return {text for text in found if text.split(" ")[0] in ("clawdbot", "celery")}


def test_the_doctors_commands_exist() -> None:
    commands = [words for hint in hints() for words in commands_in(f"`{hint}`")]

    assert len(commands) > 10
    assert [(words, fault) for words in commands if (fault := fault_of(words, targets()))] == []
