"""Secrets that are given as the name of a file that holds them."""

from __future__ import annotations

from pathlib import Path as FilePath

from shared.config.known import Path, env_name
from shared.config.sources import Given, Layer

#: The setting that names the file, and the one that the file's text is the value of.
SECRET_FILES: tuple[tuple[Path, Path], ...] = ((("master_key_file",), ("master_key",)),)


def read_secret_files(given: Layer, here: FilePath, problems: list[str]) -> None:
    """Put what the named files hold in the place of the settings that they stand for."""
    for source, target in SECRET_FILES:
        if source not in given:
            continue
        if target in given:
            problems.append(
                f"{given[source].label} and {given[target].label} are both set; keep one of them"
            )
            continue
        label = given[source].label
        text = _read(here / str(given[source].value), label, problems)
        if text:
            given[target] = Given(text, env_name(target), f"from {env_name(source)}")


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
