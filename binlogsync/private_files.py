"""Files and folders for their owner alone: what they hold are rows of the source, and positions.

Only what is made here gets these modes. A file or folder that is there keeps its own, so an operator who opens one to a
group (chmod, a folder with an ACL) is not overruled at the next start.
"""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import IO

FILE_MODE = 0o600
FOLDER_MODE = 0o700


def make_folder(path: Path) -> None:
    """The folder and its parents, those that are missing with mode 0700. Raises OSError."""
    missing = takewhile(lambda folder: not folder.exists(), path.parents)
    for each in (*reversed(list(missing)), path):
        _make_one(each)


def _make_one(path: Path) -> None:
    while True:
        try:
            path.mkdir(FOLDER_MODE, exist_ok=True)
            return
        except FileExistsError:
            if os.path.lexists(path):
                raise  # a file
            # Another process has deleted the folder at this moment, as AttachedFile.close does.


def make_file(path: Path) -> None:
    """An empty file with mode 0600 where there is none. Raises OSError."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE))


def open_new(path: Path, mode: str = "wb") -> IO[bytes]:
    """Open for writing from the start; a file that is not there yet is made with mode 0600. Raises OSError."""
    return open(path, mode, opener=lambda name, flags: os.open(name, flags, FILE_MODE))
