"""Finds mirrors that have no table yet: their tables are loaded although no client changes them."""

from collections.abc import Iterable

from binlogsync.errors import ConsumeError
from binlogsync.targets.duckdb.file import DuckFile
from binlogsync.targets.duckdb.progress import load_progress_keys
from binlogsync.targets.duckdb.state import load_mirror_names
from binlogsync.targets.progress import ProgressKey

FileVersion = tuple[int, int, int]


class UnloadedMirrors:
    """The mirrors that were never loaded and have applied no change. Opens the file only after it has changed."""

    def __init__(self) -> None:
        self._names: frozenset[tuple[str, str]] = frozenset()
        self._keys: frozenset[ProgressKey] = frozenset()
        self._version: FileVersion | None = None

    def find(self, file: DuckFile, mirrors: Iterable[ProgressKey]) -> frozenset[ProgressKey]:
        """Those of the mirrors that the file has neither a state nor progress of.

        If another process uses the file for longer than the timeout of `file`: as of the last call; none at first.
        """
        version = _read_version(file)
        if version is None:
            self._names, self._keys = frozenset(), frozenset()
        elif version != self._version:
            try:
                with file.transaction() as connection:
                    self._names, self._keys = load_mirror_names(connection), load_progress_keys(connection)
            except ConsumeError:
                if self._version is None:
                    return frozenset()
            else:
                self._version = _read_version(file)
        return frozenset(
            key for key in mirrors if key not in self._keys and (key.database, key.table) not in self._names
        )


def _read_version(file: DuckFile) -> FileVersion | None:
    """Differs after each change of the file. None if there is no file."""
    try:
        found = file.path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
