"""Secret files: folders that Docker or Kubernetes mount, and files that a setting names."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path as FilePath

from shared.config.known import Path, env_name, env_path
from shared.config.sources import Given, Layer, put

#: Where Docker and Podman mount secrets: https://docs.docker.com/engine/swarm/secrets/
DEFAULT_DIR = FilePath("/run/secrets")
#: The setting that names a file, and the one that the file's text is the value of.
NAMED_FILES: tuple[tuple[Path, Path], ...] = ((("master_key_file",), ("master_key",)),)

_OUR_PREFIX = "clawdbot"
_OUR_OTHERS = ("log_level", "log_content")


def read_secret_dirs(
    dirs: Mapping[FilePath, str], named: Collection[FilePath], problems: list[str]
) -> Layer:
    """What the files in `dirs` say, each called like its setting; a later folder wins.

    Files of others are left alone, and those of ours that a setting names (`named`). dirs: with
    what names each, "" where nobody asked for it.
    """
    layer: Layer = {}
    for folder, label in dirs.items():
        own: Layer = {}
        for file in _our_files(folder, label, problems):
            if file.resolve() in named:
                continue
            name, origin = file.name.upper(), f"secret file {file}"
            if text := _read(file, f"{name} ({origin})", problems):
                put(own, env_path(name), Given(text, name, origin), problems)
        layer.update(own)
    return layer


def read_named_files(layers: Iterable[Layer], here: FilePath, problems: list[str]) -> Layer:
    """What the files hold that settings in `layers` name; it may not be given elsewhere, too."""
    given = {path: value for layer in layers for path, value in layer.items()}
    found: Layer = {}
    for source, target in NAMED_FILES:
        if source not in given:
            continue
        label = given[source].label
        if target in given:
            problems.append(f"{label} and {given[target].label} are both set; keep one of them")
        elif text := _read(here / str(given[source].value), label, problems):
            found[target] = Given(text, env_name(target), f"from {label}")
    return found


def _our_files(folder: FilePath, label: str, problems: list[str]) -> Iterator[FilePath]:
    """In Kubernetes' folders, links through `..data`: the link counts, not what it leads to."""
    try:
        files = sorted(folder.iterdir())
    except OSError as error:
        if label:
            problems.append(f"{label}: {folder} can't be read: {error.strerror}")
        return
    yield from (file for file in files if _is_ours(file.name.lower()) and not file.is_dir())


def _is_ours(name: str) -> bool:
    return name.startswith(_OUR_PREFIX) or name in _OUR_OTHERS


def _read(file: FilePath, label: str, problems: list[str]) -> str:
    """The file's text without the line end that editors add."""
    try:
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        problems.append(f"{label}: the file can't be read: {reason}")
        return ""
    if not text:
        problems.append(f"{label}: the file is empty")
    return text
