"""Packages come from an index that is signed by the keyring, and only with the hashes that it lists.

apt-get reads a small archive that the test serves and signs.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from binlogsync.errors import EmbeddedServerError
from binlogsync.servers import debian

TOOLS = ("apt-get", "dpkg-deb", "gpg", "gpgv")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not all(map(shutil.which, TOOLS)), reason=f"requires {', '.join(TOOLS)}"),
]
WANTED = debian.PackageSet("small", ("small-server",), "install small-server 1 or newer")
ADVICE = "Use a Debian machine that reaches its own package archive, or install small-server 1 or newer"


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
        return


class SmallArchive:
    """An archive with the suite sid and one package, signed by a new key; `keyring` has the public key."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder / "archive", url
        self.home, self.keyring = folder / "gpg", folder / "keyring.gpg"
        self.suite = self.folder / "dists/sid"
        self.packages = self.suite / f"main/binary-{_printed('dpkg', '--print-architecture')}/Packages"
        self.deb = self.folder / "pool/small-server_1_all.deb"
        self.packages.parent.mkdir(parents=True)
        self.deb.parent.mkdir()
        self.home.mkdir(mode=0o700)
        self.signed = 0
        self.make_key("archive")
        self.keyring.write_bytes(self._gpg("--export", "archive"))
        self._build(folder / "build")
        self.sign(datetime.now(UTC))

    def make_key(self, name: str) -> None:
        self._gpg("--passphrase", "", "--quick-generate-key", name, "ed25519", "sign", "never")

    def sign(self, at: datetime, key: str = "archive", valid_until: datetime | None = None) -> None:
        """Write InRelease for the present list of packages."""
        listed = self.packages.read_bytes()
        until = f"Valid-Until: {_date(valid_until)}\n" if valid_until else ""
        release = (
            f"Origin: Debian\nLabel: Debian\nSuite: unstable\nCodename: sid\nDate: {_date(at)}\n{until}"
            f"Architectures: all {self.packages.parent.name.removeprefix('binary-')}\nComponents: main\nSHA256:\n"
            f" {hashlib.sha256(listed).hexdigest()} {len(listed)} {self.packages.relative_to(self.suite)}\n"
        )
        (self.folder / "Release").write_text(release)
        signed = self._gpg("--local-user", key, "--clearsign", "--output", "-", str(self.folder / "Release"))
        (self.suite / "InRelease").write_bytes(signed)
        # apt asks whether the file is newer than the one it has, in seconds.
        self.signed += 1
        changed_s = int(time.time()) - 3600 + self.signed
        os.utime(self.suite / "InRelease", (changed_s, changed_s))

    def damage(self, file: Path) -> None:
        """Change one byte near the end, where a package has its files; not the size."""
        content = bytearray(file.read_bytes())
        content[-50] ^= 1
        file.write_bytes(content)

    def _build(self, root: Path) -> None:
        (root / "DEBIAN").mkdir(parents=True)
        (root / "usr/bin").mkdir(parents=True)
        (root / "usr/bin/small").write_text("a program")
        control = "Package: small-server\nVersion: 1\nArchitecture: all\nMaintainer: nobody <n@example.com>\n"
        (root / "DEBIAN/control").write_text(f"{control}Description: a small server\n")
        subprocess.run(["dpkg-deb", "--build", str(root), str(self.deb)], check=True, capture_output=True)
        content = self.deb.read_bytes()
        self.packages.write_text(
            f"{control}Filename: {self.deb.relative_to(self.folder)}\nSize: {len(content)}\n"
            f"SHA256: {hashlib.sha256(content).hexdigest()}\nDescription: a small server\n\n"
        )

    def _gpg(self, *arguments: str) -> bytes:
        command = ["gpg", "--homedir", str(self.home), "--batch", "--yes", "--pinentry-mode", "loopback", *arguments]
        for _ in range(3):  # on a busy machine gpg may give up its agent, which it starts, too early
            done = subprocess.run(command, check=False, capture_output=True)
            if not done.returncode:
                return done.stdout
        raise AssertionError(done.stderr.decode(errors="replace"))


def _printed(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _date(at: datetime) -> str:
    return format_datetime(at.astimezone(UTC)).replace("+0000", "UTC")


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallArchive]:
    handler = partial(_QuietHandler, directory=str(tmp_path / "archive"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        archive = SmallArchive(tmp_path, f"http://127.0.0.1:{server.server_port}")
        for name in ("http_proxy", "HTTP_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setenv("BINLOGSYNC_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(debian, "KEYRING", archive.keyring)
        monkeypatch.setattr("binlogsync.servers.debian._AptClient._archive_url", lambda _: archive.url)
        yield archive
        server.shutdown()
    subprocess.run(["gpgconf", "--homedir", str(archive.home), "--kill", "all"], check=False, env=os.environ)


def refused(tmp_path: Path) -> str:
    """Unpacking fails, leaves no entry in the cache, and the error has instructions; return its message."""
    with pytest.raises(EmbeddedServerError) as failure:
        debian.unpack_packages(WANTED)
    assert not (tmp_path / "cache" / "small").exists()
    text = str(failure.value)
    assert text.startswith("cannot get the Debian package small-server for the private small server: ")
    assert text.endswith(ADVICE)
    return text


def test_a_signed_package_is_unpacked_and_recorded(archive: SmallArchive) -> None:
    unpacked = debian.unpack_packages(WANTED)
    assert (unpacked.root / "usr/bin/small").read_text() == "a program"
    digest = hashlib.sha256(archive.deb.read_bytes()).hexdigest()
    record = (unpacked.root / "binlogsync-packages.txt").read_text().splitlines()
    assert record[1:] == [f"small-server_1_all.deb SHA256:{digest}"]


def test_another_package_than_the_index_lists_is_refused(archive: SmallArchive, tmp_path: Path) -> None:
    archive.damage(archive.deb)
    text = refused(tmp_path)
    assert "the download failed" in text
    assert "Hash Sum mismatch" in text


def test_a_damaged_package_of_an_interrupted_run_is_downloaded_again(archive: SmallArchive, tmp_path: Path) -> None:
    left = tmp_path / "cache/apt/archives" / archive.deb.name
    left.parent.mkdir(parents=True)
    shutil.copy(archive.deb, left)
    archive.damage(left)
    assert (debian.unpack_packages(WANTED).root / "usr/bin/small").read_text() == "a program"


def test_a_list_of_packages_that_is_not_the_signed_one_is_refused(archive: SmallArchive, tmp_path: Path) -> None:
    archive.damage(archive.packages)
    assert "apt-get update failed" in refused(tmp_path)


def test_an_index_with_another_signature_is_refused(archive: SmallArchive, tmp_path: Path) -> None:
    archive.make_key("stranger")
    archive.sign(datetime.now(UTC), key="stranger")
    assert "apt-get update failed" in refused(tmp_path)


def test_an_index_without_a_signature_is_refused(archive: SmallArchive, tmp_path: Path) -> None:
    (archive.suite / "InRelease").unlink()
    shutil.copy(archive.folder / "Release", archive.suite / "Release")
    text = refused(tmp_path)
    assert "apt-get update failed" in text
    assert "not signed" in text


def test_a_changed_index_is_refused(archive: SmallArchive, tmp_path: Path) -> None:
    signed = archive.suite / "InRelease"
    signed.write_text(signed.read_text().replace("Codename: sid", "Codename: sid\nChanged: yes"))
    assert "apt-get update failed" in refused(tmp_path)


def test_an_old_index_is_refused_and_an_expired_one_reported(
    archive: SmallArchive, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    archive.sign(datetime(2026, 9, 1, tzinfo=UTC))
    text = refused(tmp_path)
    assert "index of sid signed 2026-09-01" in text
    assert "requires one of 2026-10-01 or later" in text
    now = datetime.now(UTC)
    archive.sign(now, valid_until=now - timedelta(seconds=1))
    with caplog.at_level(logging.WARNING):
        debian.unpack_packages(WANTED)
    assert "past its Valid-Until" in caplog.text
