"""The cache folder of the private servers; `get_entry` is the only function that adds to it.

`$BINLOGSYNC_CACHE`, else `$XDG_CACHE_HOME/binlogsync`, else `~/.cache/binlogsync`. An entry is a folder that is built
under a temporary name and then renamed, so an entry that exists is complete: a build that was killed leaves only a
temporary folder, which the next build removes. One file lock per cache keeps two processes from building at once; the
kernel releases it when its owner dies.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from binlogsync.errors import EmbeddedServerError
from binlogsync.private_files import make_folder

_BUILDING = ".building-"


def cache_dir() -> Path:
    """The cache folder, created (mode 0700) if missing."""
    chosen = os.environ.get("BINLOGSYNC_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(chosen) if chosen else Path(base) / "binlogsync"
    try:
        make_folder(folder)
    except OSError as error:
        raise EmbeddedServerError(
            f"cannot create the cache folder {folder}: {error}; set BINLOGSYNC_CACHE to a writable folder"
        ) from error
    return folder.resolve()


def get_entry(name: str, build: Callable[[Path], None]) -> Path:
    """The folder `name` of the cache; `build` fills it first if it does not exist.

    `build` gets an empty folder on the cache's own file system. When it raises, the entry is not created.
    """
    folder = cache_dir() / name
    if folder.is_dir():
        return folder
    with _lock(folder.parent):
        if folder.is_dir():
            return folder
        _remove_leftovers(folder.parent)
        building = Path(tempfile.mkdtemp(prefix=f"{_BUILDING}{name}-", dir=folder.parent))
        try:
            build(building)
            building.rename(folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return folder


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.stderr.write(f"waiting for another process that is filling {folder}\n")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove_leftovers(folder: Path) -> None:
    """Only the owner of the lock builds, so any temporary folder belongs to a build that was killed."""
    for leftover in folder.glob(f"{_BUILDING}*"):
        shutil.rmtree(leftover, ignore_errors=True)
