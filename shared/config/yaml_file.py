"""The YAML file. Scalars are taken as text, like the environment's, so `0123` stays a secret."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path as FilePath
from typing import Any

import yaml

from shared.config.known import NAMED_BLOCKS, Path, snake_case
from shared.config.sources import Given, Layer

_REFERENCE = re.compile(r"\$\{ENV:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")
#: Words of the file in PyYAML's sentences; not its tokens ('<block end>'), nor single characters.
_QUOTED = re.compile(r"""(['"])[^<'"][^'"]+\1""")
_NULL = "tag:yaml.org,2002:null"
_MAX_DEPTH = 10

Lookup = Callable[[str], str | None]


class YamlFile:
    """Makes a layer of one file; `lookup` answers `${ENV:NAME}`."""

    def __init__(self, file: FilePath, lookup: Lookup, problems: list[str]) -> None:
        self._file = file
        self._lookup = lookup
        self._problems = problems
        self._layer: Layer = {}

    def read(self, label: str) -> Layer:
        """The file's values; what is wrong with it is added to the problems. label: who names it"""
        try:
            text = self._file.read_text(encoding="utf-8")
        except OSError as error:
            reason = error.strerror or type(error).__name__
            self._problems.append(f"{label}: {self._file} can't be read: {reason}")
        except UnicodeDecodeError:
            self._problems.append(f"{label}: {self._file} is not UTF-8 text")
        else:
            return self.parse(text)
        return {}

    def parse(self, text: str) -> Layer:
        """Likewise, of what was read from it."""
        root = self._compose(text)
        if isinstance(root, yaml.MappingNode):
            self._mapping(root, (), ())
        elif root is not None and root.tag != _NULL:
            self._problem(root, "the file must be a mapping, like `port: 18789`")
        return self._layer

    def _compose(self, text: str) -> yaml.Node | None:
        try:
            return yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = f" line {mark.line + 1}" if mark else ""
            self._problems.append(f"{self._file}{where} is not YAML: {_without_text(error)}")
        except yaml.YAMLError:
            self._problems.append(f"{self._file} is not YAML: it holds a character YAML forbids")
        except RecursionError:
            self._problems.append(f"{self._file} is nested too deeply")
        return None

    def _mapping(self, node: yaml.MappingNode, path: Path, written: Path) -> None:
        if len(path) > _MAX_DEPTH:
            self._problem(node, f"{'.'.join(written)} is nested too deeply")
            return
        seen: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._problem(key, "a setting's name must be plain text")
                continue
            # The names of bots and models are theirs, not ours: kept as written.
            name = key.value if path in NAMED_BLOCKS else snake_case(key.value)
            spelled = (*written, key.value)
            if name in seen:
                self._problem(key, f"{'.'.join(spelled)} is written twice; keep one")
            seen.add(name)
            self._value(value, (*path, name), spelled)

    def _value(self, node: yaml.Node, path: Path, written: Path) -> None:
        if isinstance(node, yaml.MappingNode):
            self._mapping(node, path, written)
            return
        given = self._plain(node, ".".join(written))
        if given not in (None, ""):
            origin = f"{self._file} line {node.start_mark.line + 1}"
            self._layer[path] = Given(given, ".".join(written), origin)

    def _plain(self, node: yaml.Node, name: str) -> Any:
        """A scalar's text, a list of texts, or None for null."""
        if isinstance(node, yaml.SequenceNode):
            if all(isinstance(item, yaml.ScalarNode) for item in node.value):
                return [self._plain(item, name) for item in node.value]
            self._problem(node, f"{name} must be a list of plain values")
            return None
        if node.tag == _NULL:
            return None
        return self._filled_in(node, name)

    def _filled_in(self, node: yaml.Node, name: str) -> str:
        def answer(reference: re.Match[str]) -> str:
            found = self._lookup(reference["name"]) or reference["default"]
            if found is None:
                self._problem(
                    node,
                    f"{name} needs the environment variable {reference['name']}, which is not set; "
                    f"set it, or write ${{ENV:{reference['name']}:-default}}",
                )
            return found or ""

        text: str = node.value
        return _REFERENCE.sub(answer, text)

    def _problem(self, node: yaml.Node, sentence: str) -> None:
        self._problems.append(f"{self._file} line {node.start_mark.line + 1}: {sentence}")


def _without_text(error: yaml.MarkedYAMLError) -> str:
    """What is wrong, without what it quotes of the file: a secret in no quotes, perhaps."""
    if isinstance(error, yaml.composer.ComposerError):
        return "`*` begins an alias and `&` an anchor; put the value in quotes"
    return _QUOTED.sub("…", error.problem or "")
