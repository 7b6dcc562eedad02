"""Socket paths stay under the 104 bytes that macOS allows, however deep the project lies."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from compose.local import sockets


@pytest.fixture
def short_folder() -> Path:
    return Path(tempfile.mkdtemp(dir="/tmp"))


def test_short_path_keeps_the_sockets_in_run(short_folder: Path) -> None:
    assert sockets.make_folder(short_folder) == short_folder
    assert list(short_folder.iterdir()) == []


@pytest.mark.parametrize("name", ["x" * 120, "机器人" * 12])
def test_long_path_gets_a_short_private_folder(tmp_path: Path, name: str) -> None:
    run = tmp_path / name
    run.mkdir()

    folder = sockets.make_folder(run)

    try:
        assert folder != run
        assert sockets.fits(folder)
        assert folder.stat().st_mode & 0o777 == 0o700
    finally:
        sockets.remove_folder(folder, run)
    assert not folder.exists()


def test_longest_socket_of_a_fitting_folder_is_under_104_bytes() -> None:
    folder = Path("/", "x" * 78)

    assert sockets.fits(folder)
    assert not sockets.fits(Path("/", "x" * 79))
    assert len(os.fsencode(folder / "supervisor.sock.4194304")) == 103


def test_run_itself_is_never_removed(short_folder: Path) -> None:
    sockets.remove_folder(short_folder, short_folder)

    assert short_folder.exists()


def test_temporary_folder_with_a_long_path_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / ("y" * 120)
    run.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(run))

    folder = sockets.make_folder(run)

    assert folder.parent == Path("/tmp")
    sockets.remove_folder(folder, run)
