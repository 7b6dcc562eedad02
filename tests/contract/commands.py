"""Commands as documents write them: found, and checked against what there is."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
from celery.bin.celery import celery
from celery.bin.worker import worker

from shared.cli import cli

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path
    for pattern in (
        "*.md",
        "docs/*.md",
        "*/README.md",
        "shared/*/README.md",
        "shared/*/*/README.md",
    )
    for path in ROOT.glob(pattern)
)
PROGRAMS = ("clawdbot", "make", "curl", "celery", "python")
ELLIPSIS = "…"

_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.M | re.S)
_PLACEHOLDER = re.compile(r"<[^>]*>")
_INDENTED = re.compile(r"^    (\S.*)$", re.M)
_SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_CUT = re.compile(r"\s\|\s|&&|;|\s#\s")
_ASSIGNMENT = re.compile(r"[A-Z][A-Z0-9_]*=\S*")


def commands_in(text: str) -> Iterator[list[str]]:
    """Every command of ours in a document, as words."""
    blocks = [block for kind, block in _FENCE.findall(text) if kind in ("", "sh", "bash")]
    rest = _FENCE.sub("", text)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    for written in (*lines, *_INDENTED.findall(rest), *_SPAN.findall(rest)):
        yield from _commands_of(" ".join(written.split()))


def _commands_of(line: str) -> Iterator[list[str]]:
    for piece in _CUT.split(_PLACEHOLDER.sub("x", line.removeprefix("$ "))):
        try:
            words = shlex.split(piece)
        except ValueError:  # half a sentence, no command
            continue
        while words and (_ASSIGNMENT.fullmatch(words[0]) or words[0] == "nice"):
            del words[0]
        if "exec" in words and "clawdbot" in words:  # docker compose … exec <service> clawdbot
            words = words[words.index("clawdbot") :]
        if words and words[0].removeprefix(".venv/bin/") in PROGRAMS:
            yield [words[0].removeprefix(".venv/bin/"), *words[1:]]


def fault_of(words: list[str], targets: Iterable[str]) -> str:
    """What of a command there is not; "" when all of it is. targets: of the Makefile."""
    program, rest = words[0], words[1:]
    if program == "clawdbot":
        return _click_fault(cli, rest)
    if program == "make":
        named = [w for w in rest if "=" not in w and not w.startswith("-") and w != ELLIPSIS]
        return next((f"no target {name}" for name in named if name not in targets), "")
    if program == "celery":
        return _celery_fault(rest)
    if program == "python" and rest[:1] == ["-m"]:
        return _module_fault(rest[1])
    return ""


def _click_fault(command: click.Command, words: list[str]) -> str:
    context = click.Context(command)
    while isinstance(command, click.Group) and words and words[0].isalpha():
        found = command.get_command(context, words[0])
        if found is None:
            return f"no command {words[0]}"
        command, words = found, words[1:]
    return _option_fault(command, words)


def _option_fault(command: click.Command, words: list[str]) -> str:
    if command.context_settings.get(
        "ignore_unknown_options"
    ):  # it hands them on to another program
        return ""
    known = {"-h", "--help"}
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            known |= {*parameter.opts, *parameter.secondary_opts}
    given = [word.partition("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)]
    return next((f"no option {option}" for option in given if option not in known), "")


def _celery_fault(words: list[str]) -> str:
    while words[:1] and words[0].startswith("-"):
        words = words[2:]  # -A workers
    if words[:1] == ["worker"]:
        return _option_fault(worker, words[1:])
    known = {*celery.commands, "flower", ELLIPSIS}
    return "" if not words or words[0] in known else f"no command {words[0]}"


def _module_fault(module: str) -> str:
    path = ROOT / module.replace(".", "/")
    is_ours = (ROOT / module.partition(".")[0]).is_dir()
    found = path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()
    return f"no module {module}" if is_ours and not found else ""
