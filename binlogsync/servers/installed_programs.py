"""Finds server programs that are installed on this machine and new enough.

`BINLOGSYNC_EMBEDDED=download` makes the private servers ignore what is installed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from binlogsync.private_files import make_folder

_SYSTEM_FOLDERS = "/usr/local/sbin:/usr/sbin:/sbin"  # Debian keeps these off the PATH of ordinary users
_VERSION_TIMEOUT_S = 20


@dataclass(frozen=True, slots=True)
class ServerProgram:
    """An executable server.

    Attributes:
        command: the start of its command line.
        version: its version as text, "9.7.4".
    """

    command: tuple[str, ...]
    version: str


def find_program(
    name: str, *, at_least: tuple[int, ...], contains: str = "", excludes: str = "\0"
) -> ServerProgram | None:
    """The program `name` of this machine; None if absent, too old or ignored.

    Its version text must contain `contains`, and must not contain `excludes`.
    """
    if os.environ.get("BINLOGSYNC_EMBEDDED") == "download":
        return None
    path = shutil.which(name) or shutil.which(name, path=_SYSTEM_FOLDERS)
    if path is None:
        return None
    text = version_text((path,))
    version = parse_version(text)
    if contains not in text or excludes in text or version is None or version_numbers(version) < at_least:
        return None
    return ServerProgram((path,), version)


def version_text(command: tuple[str, ...]) -> str:
    """The output of `command --version`; empty if it cannot be run."""
    try:
        done = subprocess.run(
            [*command, "--version"], capture_output=True, text=True, check=False, timeout=_VERSION_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr


def parse_version(text: str) -> str | None:
    """The first dotted version in `text`."""
    found = re.search(r"\d+\.\d+(\.\d+)?", text)
    return found[0] if found else None


def version_numbers(version: str) -> tuple[int, ...]:
    """ "9.7.4" as (9, 7, 4)."""
    return tuple(int(part) for part in version.split("."))


def make_folder_path(path: Path) -> Path:
    """Create the folder (mode 0700) and its parents; return its absolute path."""
    make_folder(path)
    return path.resolve()
