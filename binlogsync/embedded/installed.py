"""Finds a server program that this machine already has, when it is new enough.

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
class Program:
    """A program that can be run.

    Attributes:
        command: the start of its command line.
        version: its version as text, "9.7.4".
    """

    command: tuple[str, ...]
    version: str


def program(name: str, *, at_least: tuple[int, ...], says: str = "", never_says: str = "\0") -> Program | None:
    """The program `name` of this machine; None when absent, too old, not what `says` asks for, or not wanted."""
    if os.environ.get("BINLOGSYNC_EMBEDDED") == "download":
        return None
    path = shutil.which(name) or shutil.which(name, path=_SYSTEM_FOLDERS)
    if path is None:
        return None
    text = version_text((path,))
    version = parse_version(text)
    if says not in text or never_says in text or version is None or numbers(version) < at_least:
        return None
    return Program((path,), version)


def version_text(command: tuple[str, ...]) -> str:
    """What `command --version` prints; empty when it cannot be run."""
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


def numbers(version: str) -> tuple[int, ...]:
    """ "9.7.4" as (9, 7, 4)."""
    return tuple(int(part) for part in version.split("."))


def folder_of(path: Path) -> Path:
    """`path` made (mode 0700) with its parents, and absolute."""
    make_folder(path)
    return path.resolve()
