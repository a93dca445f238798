"""Debian packages, unpacked into a separate folder and run from there: no root, no Docker, nothing installed.

apt-get runs with a separate state, cache and source list (Debian's unstable suite, which has the current database
servers, unless a package set names another) and an empty list of installed packages. So it downloads everything down
to the C library, and verifies it against Debian's keyring; package_index.py decides how old the signed index may be.
Every package, also one that an interrupted run left, is unpacked only with the SHA-256 that the signed index lists. A
file beside the unpacked files records the index's date, and each package with its hash. The archive's address comes
from this machine's own apt sources. A program is run by the unpacked dynamic loader with the unpacked libraries, so the
machine's own C library does not matter.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from binlogsync.errors import EmbeddedServerError
from binlogsync.progress_bar import ProgressBar
from binlogsync.servers.cache import cache_dir, get_entry
from binlogsync.servers.package_index import PackageIndex, parse_index
from binlogsync.servers.process import bound_to_this_process

logger = logging.getLogger(__name__)

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SUITE = "sid"
_NOT_NEEDED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/perl", "usr/share/info")
_QUOTED_LINES = 6
_RECORD = "binlogsync-packages.txt"


@dataclass(frozen=True, slots=True)
class PackageSet:
    """The packages of one server.

    Attributes:
        name: the cache entry they are unpacked into.
        packages: Debian's names, without dependencies.
        alternative: what the user can do without them, as the end of a sentence.
        suite: of Debian's archive.
    """

    name: str
    packages: tuple[str, ...]
    alternative: str
    suite: str = SUITE


@dataclass(frozen=True, slots=True)
class UnpackedPackages:
    """A folder with the files of packages, laid out like the root of a file system."""

    root: Path

    def command(self, program: str, libraries: Sequence[str] = ()) -> tuple[str, ...]:
        """The start of a command line that runs `program` (a path below the root) with the folder's own loader.

        `libraries` are further library folders below the root.
        """
        # The second pattern is for suites before the merge of /lib into /usr/lib.
        patterns = ("usr/lib*/ld-linux*.so.*", "lib/*-linux-gnu/ld-linux*.so.*")
        loader = next((found for pattern in patterns for found in sorted(self.root.glob(pattern))), None)
        if loader is None or not (self.root / program).exists():
            raise EmbeddedServerError(
                f"{self.root} holds no loader or no {program}; delete that folder to download it again"
            )
        own = (*sorted(self.root.glob("usr/lib/*-linux-gnu")), *sorted(self.root.glob("lib/*-linux-gnu")))
        folders = [*own, *(self.root / library for library in libraries)]
        path = ":".join(str(folder) for folder in folders)
        return str(loader), "--library-path", path, str(self.root / program)


def unpack_packages(packages: PackageSet) -> UnpackedPackages:
    """The packages' folder; they are downloaded and unpacked first if the cache does not contain them.

    Raises EmbeddedServerError with the names of the packages and the alternative.
    """
    return UnpackedPackages(get_entry(packages.name, lambda folder: _download_and_unpack(packages, folder)))


def _show(progress: ProgressBar, share: float, what: str) -> None:
    progress.update(share, f"{share:4.0%} {what}")


def _download_and_unpack(wanted: PackageSet, folder: Path) -> None:
    progress = ProgressBar(f"{wanted.name}:")
    _show(progress, 0, "reading Debian's package lists")
    apt = _AptClient(wanted)
    archives = apt.download(progress)
    for done, archive in enumerate(archives):
        _show(progress, 0.75 + 0.25 * done / len(archives), f"unpacking {archive.name.split('_')[0]}")
        _run(wanted, ["dpkg", "-x", str(archive), str(folder)])
    for archive in archives:
        archive.unlink()
    for path in _NOT_NEEDED:
        shutil.rmtree(folder / path, ignore_errors=True)
    (folder / _RECORD).write_text("\n".join(apt.record) + "\n")
    progress.done(f"{len(archives)} packages unpacked, {describe_age(apt.record[0])}")


def find_index(lists: Path, suite: str) -> PackageIndex:
    """The index of a suite among apt's lists. Raises EmbeddedServerError."""
    for kind in ("InRelease", "Release"):
        for found in sorted(lists.glob(f"*_dists_{suite}_{kind}")):
            return parse_index(suite, found.read_text(errors="replace"))
    raise EmbeddedServerError(f"apt has no index of {suite} in {lists}")


def has_hash(file: Path, expected: str) -> bool:
    """True for an existing file with this hash, which apt prints as SHA256:HEX. Another kind of hash is never right."""
    kind, _, digest = expected.partition(":")
    if kind != "SHA256" or not file.is_file():
        return False
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest() == digest


def origin_of(program: str) -> str:
    """The package index of an unpacked program; "" for another program, or one without a record."""
    for folder in Path(program).parents:
        if (record := folder / _RECORD).is_file():
            return describe_age(record.read_text().partition("\n")[0])
    return ""


def describe_age(recorded: str) -> str:
    """A sentence for the first line of a record: suite and time."""
    suite, _, signed = recorded.partition(" ")
    return PackageIndex(suite, datetime.fromisoformat(signed), None).age(datetime.now(UTC))


class _AptClient:
    """apt-get with separate folders; the next run uses the files that an interrupted one has downloaded.

    Attributes:
        record: the index's date, then name and hash of each package, after `download`.
    """

    def __init__(self, wanted: PackageSet) -> None:
        self._wanted = wanted
        self.record: list[str] = []
        if missing := [tool for tool in ("apt-get", "dpkg") if shutil.which(tool) is None]:
            raise _unavailable(wanted, f"this machine has no {' and no '.join(missing)}")
        if not KEYRING.exists():
            raise _unavailable(wanted, f"{KEYRING} is missing (package debian-archive-keyring)")
        self._folder = cache_dir() / ("apt" if wanted.suite == SUITE else f"apt-{wanted.suite}")
        for part in ("lists/partial", "archives/partial", "empty/partial"):
            (self._folder / part).mkdir(parents=True, exist_ok=True)
        (self._folder / "status").write_text("")
        (self._folder / "sources.list").write_text(
            f"deb [signed-by={KEYRING}] {self._archive_url()} {wanted.suite} main\n"
        )

    def download(self, progress: ProgressBar) -> list[Path]:
        """The .deb files of the packages and of their dependencies."""
        _run(self._wanted, self._command("update"))
        index = self._load_index()
        _show(progress, 0, index.age(datetime.now(UTC)))
        arguments = ["install", "--yes", "--download-only", *self._wanted.packages]
        # It prints only files that are missing in the archive folder, so this call is given an empty folder.
        empty = f"Dir::Cache::archives={self._folder / 'empty'}"
        listed = _run(
            self._wanted, self._command("-o", empty, "-o", "Acquire::ForceHash=SHA256", "--print-uris", *arguments)
        )
        # 'address' name size hash
        lines = [line.split() for line in listed.splitlines() if line.startswith("'")]
        self.record = [f"{index.suite} {index.signed.isoformat()}", *(" ".join((line[1], *line[3:])) for line in lines)]
        archives = {self._folder / "archives" / line[1]: line[3] for line in lines}
        for archive, expected in archives.items():
            # apt takes a file of an interrupted run by its size.
            if archive.exists() and not has_hash(archive, expected):
                archive.unlink()
        self._fetch(self._command(*arguments), progress)
        for archive, expected in archives.items():
            if not has_hash(archive, expected):
                archive.unlink(missing_ok=True)
                raise _unavailable(self._wanted, f"{archive.name} has not the {expected} of the index; try again")
        return [*archives]

    def _load_index(self) -> PackageIndex:
        """The index that apt has downloaded. Raises EmbeddedServerError if it is too old."""
        now = datetime.now(UTC)
        try:
            index = find_index(self._folder / "lists", self._wanted.suite)
            index.check(now)
        except EmbeddedServerError as error:
            raise _unavailable(self._wanted, str(error)) from error
        if index.has_expired(now):
            logger.warning("%s: past its Valid-Until; newer packages may contain more fixes", index.age(now))
        return index

    def _fetch(self, command: list[str], progress: ProgressBar) -> None:
        status, status_in = os.pipe()
        log = self._folder / "download.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                bound_to_this_process([command[0], "-o", f"APT::Status-Fd={status_in}", *command[1:]]),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(status_in,),
            )
        os.close(status_in)
        with os.fdopen(status) as lines:
            for line in lines:
                kind, _, rest = line.partition(":")
                if kind == "dlstatus":
                    _, percent, what = rest.split(":", 2)
                    _show(progress, 0.0075 * float(percent), what.strip().lower())
        if process.wait():
            raise _unavailable(self._wanted, f"the download failed: {_last_lines(log.read_text())}")

    def _command(self, *arguments: str) -> list[str]:
        options = {
            "Dir::State::lists": self._folder / "lists",
            "Dir::State::status": self._folder / "status",
            "Dir::Cache": self._folder,
            "Dir::Cache::archives": self._folder / "archives",
            "Dir::Etc::sourcelist": self._folder / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "Acquire::Check-Valid-Until": "false",  # _load_index decides instead
            "Acquire::Languages": "none",
            "Acquire::Retries": "2",
            "DPkg::Lock::Timeout": "30",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "root",
            "APT::Update::Error-Mode": "any",
        }
        flags = (part for key, value in options.items() for part in ("-o", f"{key}={value}"))
        return ["apt-get", *flags, *arguments]

    def _archive_url(self) -> str:
        """The address of Debian's main archive in this machine's own sources.

        A machine that never ran `apt-get update` has no index targets, but prints the URLs that an update would read.
        """
        targets = _run(self._wanted, ["apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)"])
        for line in targets.splitlines():
            label, _, address = line.partition(" ")
            if label == "Debian":
                return address
        lists = f"Dir::State::lists={self._folder / 'lists'}"
        for line in _run(self._wanted, ["apt-get", "-o", lists, "update", "--print-uris"]).splitlines():
            address = line.strip().lstrip("'").partition("dists/")[0]
            if address.rstrip("/").endswith("/debian"):
                return address
        raise _unavailable(self._wanted, "this machine's apt sources name no Debian archive")


def _run(wanted: PackageSet, command: list[str]) -> str:
    """Runs a command and returns what it prints; its last lines are in the error when it fails."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise _unavailable(wanted, f"this machine has no {command[0]}") from error
    if done.returncode:
        verb = next((word for word in command[1:] if word in ("update", "install", "indextargets")), command[1])
        raise _unavailable(wanted, f"{command[0]} {verb} failed: {_last_lines(done.stderr or done.stdout)}")
    return done.stdout


def _unavailable(wanted: PackageSet, reason: str) -> EmbeddedServerError:
    return EmbeddedServerError(
        f"cannot get the Debian package {wanted.packages[0]} for the private {wanted.name} server: {reason}. "
        f"Use a Debian machine that reaches its own package archive, or {wanted.alternative}"
    )


def _last_lines(text: str) -> str:
    """apt's errors and warnings, which hashes and hints may follow; without any, the last lines."""
    lines = [line.strip() for line in text.strip().splitlines()]
    return " | ".join(([line for line in lines if line.startswith(("E:", "W:"))] or lines)[-_QUOTED_LINES:])
